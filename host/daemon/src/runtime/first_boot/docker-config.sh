mkdir -p /etc/docker
if [ -s /etc/docker/daemon.json ] && ! cmp -s /etc/docker/daemon.json /etc/springtide/daemon.json; then
    cp -p /etc/docker/daemon.json /etc/docker/daemon.json.before
    warn 'the image has an /etc/docker/daemon.json: the engine options replace it, and it is kept as daemon.json.before'
fi
cp /etc/springtide/daemon.json /etc/docker/daemon.json
restart=yes

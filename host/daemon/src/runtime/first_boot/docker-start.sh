if command -v dockerd > /dev/null; then
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable docker.service
        if [ "$restart" = yes ]; then systemctl restart docker.service; else systemctl start docker.service; fi
    elif command -v rc-service > /dev/null; then
        rc-update add docker default
        if [ "$restart" = yes ]; then rc-service docker restart; else rc-service docker start; fi
    else
        if [ "$restart" = yes ]; then service docker restart; else service docker start; fi
    fi
    tries=0
    until docker version > /dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge 60 ]; then
            warn 'Docker does not answer a minute after its start: journalctl -u docker there says why'
            break
        fi
        sleep 1
    done
fi

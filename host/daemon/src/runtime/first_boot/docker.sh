if ! command -v dockerd > /dev/null; then
    begun=$(cut -d. -f1 /proc/uptime)
    if install_docker; then
        took=$(($(cut -d. -f1 /proc/uptime) - begun))
        warn "Docker was not there and was installed in $took s: every machine pays for that at its first boot; an image that carries Docker does not"
    else
        warn 'Docker is not there and could not be installed: use an image that carries it, or see /var/log/cloud-init-output.log there'
    fi
fi

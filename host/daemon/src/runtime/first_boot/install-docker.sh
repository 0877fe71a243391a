install_docker() {
    if command -v apt-get > /dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get -o DPkg::Lock::Timeout=300 update &&
            apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io apparmor
    elif command -v dnf > /dev/null; then
        dnf -y install docker || dnf -y install moby-engine
    elif command -v yum > /dev/null; then
        yum -y install docker
    elif command -v zypper > /dev/null; then
        zypper --non-interactive install docker
    elif command -v apk > /dev/null; then
        apk add docker
    elif command -v pacman > /dev/null; then
        pacman -Sy --noconfirm docker
    else
        echo 'springtide: no package manager is known here'
        return 1
    fi
}

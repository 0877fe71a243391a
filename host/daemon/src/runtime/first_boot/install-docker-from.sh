install_docker() {
    if command -v curl > /dev/null; then
        curl -fsSL "$install_url" > /run/springtide/install-docker
    else
        wget -qO /run/springtide/install-docker "$install_url"
    fi && sh /run/springtide/install-docker
}

if ! command -v dockerd > /dev/null; then
    warn 'Docker is not there and engine-install is false: use an image that carries it'
fi

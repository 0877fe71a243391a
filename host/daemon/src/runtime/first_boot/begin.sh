#!/bin/sh
# What cloud-init runs once, as root. Springtide reads the warnings and shows them in the machine's log.
mkdir -p /run/springtide
warn() {
    echo "springtide: $*"
    echo "$*" >> /run/springtide/warnings
}

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --now springtide-dead-man.service ||
        warn 'the timer that powers this machine off where no manager looks after it could not be started'
else
    nohup sh /usr/local/sbin/springtide-dead-man > /dev/null 2>&1 &
    warn 'there is no systemd: the timer that powers this machine off does not come back after a restart of it'
fi

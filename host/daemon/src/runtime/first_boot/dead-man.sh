#!/bin/sh
# Powers this machine off once its lease has run out: then no manager looks after it any more.
# A lease is an uptime in seconds, for clocks are set while a machine boots.
lease=${SPRINGTIDE_LEASE:-/run/springtide/lease}
length=${SPRINGTIDE_LEASE_SECONDS:-14400}
look=${SPRINGTIDE_LOOK_SECONDS:-30}

up() { cut -d. -f1 /proc/uptime; }

end=$(($(up) + length))
mkdir -p "$(dirname "$lease")"
[ -s "$lease" ] || echo "$end" > "$lease"
# The last lease that could be read counts: a file that is lost makes no machine live for ever.
while :; do
    told=
    read -r told 2>/dev/null < "$lease"
    case $told in
        '' | *[!0-9]*) ;;
        *) end=$told ;;
    esac
    [ "$(up)" -lt "$end" ] || break
    sleep "$look"
done
echo 'springtide: the lease of this machine has run out; it powers off'
if [ -n "$SPRINGTIDE_POWEROFF" ]; then
    exec sh -c "$SPRINGTIDE_POWEROFF"
fi
systemctl poweroff 2>/dev/null || poweroff || shutdown -h now
sleep 120
# What hangs on shutdown costs as much as what runs.
poweroff -f || systemctl poweroff --force --force
sleep 60
echo o > /proc/sysrq-trigger

# A throw-away copy of a system, booted by systemd in a container; sourced by test-systemd,
# test-deb, test-arch and test-machine.
# They call take_copy SYSTEM, boot, and inside. Needs root and systemd-nspawn.
# shellcheck shell=bash
unit=fieldwatch-agent.service
wait_s_max=${WAIT_S_MAX:-180}

outside=$(mktemp -d)
root=$outside/root
nspawn=
halt() {
    [ -n "$nspawn" ] || return 0
    inside systemctl --quiet poweroff >/dev/null 2>&1 || true
    for _ in {1..50}; do
        kill -0 "$nspawn" 2>/dev/null || break
        sleep 0.2
    done
    kill -KILL "$nspawn" 2>/dev/null || true # a copy that does not go down by itself
    wait "$nspawn" 2>/dev/null || true
    nspawn=
}
cut_power() { # with the first process of the copy, all of its processes end at once
    kill -KILL "$(first_process)"
    wait "$nspawn" 2>/dev/null || true
    nspawn=
}
throw_away() {
    halt
    ! mountpoint --quiet "$root" || umount --lazy "$root"
    umount --lazy "$outside"
    rmdir "$outside"
}
take_copy() { # SYSTEM
    # a tmpfs, because an overlay of / cannot keep its changes in /
    mount -t tmpfs -o mode=755 fieldwatch-test "$outside"
    trap throw_away EXIT
    mkdir "$outside"/{changes,work,root}
    mount -t overlay -o "lowerdir=$1,upperdir=$outside/changes,workdir=$outside/work" overlay "$root"
    rm -f "$root/etc/machine-id" # with one of its own, systemd asks nothing at its first start
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    ln -sfn /dev/null "$root/etc/systemd/system/mosquitto.service" # the tests start their own broker
}

# in it, with this network, and before it is booted without one
prepared() {
    systemd-nspawn --register=no --keep-unit --console=pipe --quiet --resolv-conf=replace-host \
        --setenv=PATH=/usr/bin:/bin:/usr/sbin:/sbin "${of_pip[@]}" -D "$root" "$@" </dev/null
}
mapfile -t of_pip < <(env | grep -E '^(PIP_|https?_proxy=|HTTPS?_PROXY=|SSL_CERT_FILE=)' | sed 's/^/--setenv=/')

boot() { # [TARGET]
    # asking the clock is let through to the unit, whose own rules are what is tested
    systemd-nspawn --register=no --keep-unit --private-network --console=pipe --quiet \
        --system-call-filter=@clock -D "$root" -b "systemd.unit=${1:-basic.target}" >"$outside/console" 2>&1 &
    nspawn=$!
    until_ "systemd is up" inside systemctl --quiet is-active basic.target
}

first_process() { pgrep --parent "$nspawn" | head -1; }
# sets entering to the words before a command in the copy
enter() {
    entering=(nsenter --target "$(first_process)" --mount --uts --ipc --net --pid --cgroup
        env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
}
inside() { enter; "${entering[@]}" "$@"; }
shown() { inside systemctl show --value --property "$1" $unit; }
log() { inside journalctl --quiet --no-pager --unit $unit; }
agent() { inside runuser -u "$1" -- fieldwatch-agent "${@:2}"; }
status() { agent fieldwatch status --json; }
# to its end: status would else end with an error, when nobody reads on
scored() { status | grep --only-matching '"scored": [1-9][0-9]*'; }

# the surroundings of a gateway: units of a broker with its users in /etc/broker, and of a simulated pump at pump_port.
# To stop the pump is to pull its plug. Neither starts by itself.
pump_port=/run/pump
write_surroundings() {
    local units=$root/etc/systemd/system
    mkdir -p "$root/etc/broker"
    printf 'listener 1883\npassword_file /run/passwords\n' >"$root/etc/broker/broker.conf"
    echo 'gateway-1:secret' >"$root/etc/broker/passwords"
    install -m 644 scripts/lib/pump.py "$root/opt/pump.py"
    cat >"$units/broker.service" <<'END'
[Service]
Type=notify
ExecStartPre=/bin/sh -c 'cp /etc/broker/passwords /run/ && mosquitto_passwd -U /run/passwords && chown mosquitto /run/passwords'
ExecStart=/usr/sbin/mosquitto -c /etc/broker/broker.conf
END
    cat >"$units/pump.service" <<END
[Service]
ExecStart=/opt/fieldwatch/bin/python /opt/pump.py $pump_port
ExecStartPost=/bin/sh -c 'until [ -e $pump_port ]; do sleep 0.1; done'
ExecStopPost=/bin/rm -f $pump_port
END
}
start_broker_and_pump() {
    inside systemctl daemon-reload
    inside systemctl start broker pump
}
# the configuration of a gateway that reads this pump, and its surroundings
configure() {
    write_surroundings
    install -m 644 models/zoo/pump.fieldwatch "$root/etc/fieldwatch/"
    mkdir -p "$root/etc/credstore"
    sed -e "s|^port = .*|port = \"$pump_port\"|" -e 's|^host = .*|host = "127.0.0.1"\nusername = "gateway-1"|' \
        systemd/agent.toml >"$root/etc/fieldwatch/agent.toml"
    install -m 600 /dev/stdin "$root/etc/credstore/mqtt.password" <<<secret
}

# a unit that tries what the agent's unit forbids, with all else as it is there
write_forbidden() {
    cp scripts/deb/forbidden.py "$root/opt/forbidden"
    sed -e '/^Type=/d;/^ExecReload/d;/^Restart/d;/^WatchdogSec/d' -e '/^NotifyAccess/d' \
        -e 's|^ExecStart=.*|Type=oneshot\nExecStart=/opt/fieldwatch/bin/python /opt/forbidden|' \
        "$root/usr/lib/systemd/system/$unit" >"$root/etc/systemd/system/forbidden.service"
}
try_forbidden() {
    inside systemctl start forbidden.service || { inside journalctl --no-pager -u forbidden.service >&2; exit 1; }
    echo "ok  $(inside journalctl --no-pager -u forbidden.service | grep -c 'refused: ') forbidden actions are refused in its unit"
}

# until WHAT COMMAND...: wait for the command to succeed; fail, with the agent's log, if it does not
until_() {
    local what=$1 until=$((SECONDS + wait_s_max))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > until)); then
            echo "error: waited in vain: $what" >&2
            log | tail -20 >&2 || cat "$outside/console" >&2
            exit 1
        fi
        sleep 0.2
    done
    echo "ok  $what"
}
not() { ! "$@"; }
is() { [ "$(shown "$1")" = "$2" ]; }

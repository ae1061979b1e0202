#!/bin/sh
# Makes a computer ready to run the agents of robots: Raspberry Pi 4 or 5 with Raspberry Pi OS Lite
# (64 bit), or another Debian 12 or newer on 64-bit ARM or Intel. Run it from a checkout, again
# whenever you like: it changes what differs and keeps keys, robot.toml and state.
#
#   sudo deploy/robot/install.sh                                    the software alone, or an update
#   sudo deploy/robot/install.sh --robot NAME --bundle FOLDER       and a robot of the fleet
#
# NAME and FOLDER are those of 'fleet enrol NAME --bundle FOLDER'. docs/raspberry-pi.md goes on from
# there.
#
# DESTDIR=/somewhere installs below that folder and leaves the system alone: neither users, nor
# packages, nor services. That is what the tests do. Never run where it was written, for want of a
# Raspberry Pi: useradd, apt-get, systemctl and udevadm below.
set -eu

DESTDIR=${DESTDIR:-}
PYTHON=${PYTHON:-python3}
USER_NAME=graspfleet
HOME_FOLDER=/opt/graspfleet
SOURCE=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

say() {
    echo "== $1"
}

usage() {
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0"
}

read_arguments() {
    robot='' bundle='' arm=so101
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h)
            usage
            exit 0
            ;;
        --robot | --bundle | --arm)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help" 2
            case $1 in
            --robot) robot=$2 ;;
            --bundle) bundle=$2 ;;
            --arm) arm=$2 ;;
            esac
            shift 2
            ;;
        *) fail "unknown argument $1; see --help" 2 ;;
        esac
    done
    [ -z "$robot" ] && [ -n "$bundle" ] && fail "--bundle needs --robot NAME" 2
    [ -n "$robot" ] && [ -z "$bundle" ] && fail "--robot needs --bundle FOLDER" 2
    case $robot in
    *[!A-Za-z0-9_.-]*) fail "--robot $robot: letters, digits, '_', '.' and '-' only" 2 ;;
    esac
    [ -f "$SOURCE/deploy/robot/$arm.toml" ] ||
        fail "--arm $arm: there is no deploy/robot/$arm.toml to begin with" 2
}

check_machine() {
    case $(uname -m) in
    aarch64 | x86_64) ;;
    *) fail "$(uname -m): 64-bit ARM or Intel is needed; flash the 64 bit version of the system" ;;
    esac
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; $PYTHON is $("$PYTHON" --version 2>&1)"
    [ -n "$DESTDIR" ] || [ "$(id -u)" -eq 0 ] || fail "run it with sudo"
}

install_packages() {
    [ -z "$DESTDIR" ] || return 0
    if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        say "python3-venv"
        apt-get update -qq
        apt-get install -y -qq python3-venv
    fi
}

make_user() {
    [ -z "$DESTDIR" ] || return 0
    if ! getent passwd "$USER_NAME" >/dev/null; then
        say "user $USER_NAME"
        useradd --system --user-group --no-create-home --home-dir /var/lib/graspfleet \
            --shell /usr/sbin/nologin "$USER_NAME"
    fi
    usermod --append --groups dialout,video "$USER_NAME"
}

install_software() {
    say "software in $HOME_FOLDER"
    home=$DESTDIR$HOME_FOLDER
    [ -x "$home/bin/python" ] || "$PYTHON" -m venv "$home"
    # A copy of what a robot needs: pip would build in the checkout, and leave its traces there.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    (cd "$SOURCE" && cp -R pyproject.toml README.md LICENSE protocol robot_agent "$copy")
    install_by_pip --constraint "$SOURCE/constraints.txt" "${copy}[hardware]"
    # Once more without what it needs: code that changed has the same version as before.
    install_by_pip --force-reinstall --no-deps "$copy"
    rm -f "$home/bin/fleet"
    "$home/bin/robot-agent" check --help >/dev/null
}

install_by_pip() {
    "$home/bin/python" -m pip --disable-pip-version-check --no-input --quiet install "$@"
}

install_files() {
    say "unit, udev rules, graspfleet-robot"
    put 0644 "$SOURCE/deploy/systemd/graspfleet-agent@.service" /etc/systemd/system
    put 0644 "$SOURCE/deploy/robot/70-graspfleet.rules" /etc/udev/rules.d
    put 0755 "$SOURCE/deploy/robot/graspfleet-robot" /usr/local/bin
    [ -z "$DESTDIR" ] || return 0
    systemctl daemon-reload
    udevadm control --reload
    udevadm trigger --subsystem-match=tty --subsystem-match=video4linux
}

put() { # mode, file, folder
    mkdir -p "$DESTDIR$3"
    install -m "$1" "$2" "$DESTDIR$3/"
}

place_robot() {
    [ -n "$robot" ] || return 0
    folder=$DESTDIR/etc/graspfleet/$robot
    for file in robot.secret server.public release.public robot-part.toml; do
        [ -f "$bundle/$file" ] || fail "$bundle/$file is missing; is it a bundle of 'fleet enrol'?"
    done
    enrolled=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$bundle/robot-part.toml")
    [ "$enrolled" = "$robot" ] || fail "$bundle is the bundle of $enrolled, not of $robot"
    say "robot $robot in /etc/graspfleet/$robot"
    mkdir -p "$folder"
    chmod 0755 "$DESTDIR/etc/graspfleet" "$folder"
    # A notice of an earlier bundle is of keys that this one's learner does not have.
    rm -f "$folder"/*.notice
    for file in "$bundle"/*.public "$bundle"/*.notice; do
        [ ! -f "$file" ] || install -m 0644 "$file" "$folder/"
    done
    install -m 0600 "$bundle/robot.secret" "$folder/"
    if [ -f "$folder/robot.toml" ]; then
        say "robot.toml is kept as it is"
    else
        write_configuration >"$folder/robot.toml.new"
        chmod 0644 "$folder/robot.toml.new"
        mv "$folder/robot.toml.new" "$folder/robot.toml"
    fi
}

write_configuration() {
    echo "# Robot $robot. Relative paths are taken from this folder."
    echo "state_folder = \"/var/lib/graspfleet/$robot\""
    cat "$bundle/robot-part.toml"
    echo
    cat "$SOURCE/deploy/robot/$arm.toml"
}

say_what_next() {
    say "done"
    if [ -n "$robot" ]; then
        echo "Look through /etc/graspfleet/$robot/robot.toml, then:"
        echo "  sudo graspfleet-robot $robot calibrate --only joints"
        echo "  sudo graspfleet-robot $robot calibrate --only gripper"
        echo "  sudo graspfleet-robot $robot check --move       # the arm moves by itself: keep clear"
        echo "  sudo graspfleet-robot $robot run --dry-run"
        echo "  sudo graspfleet-robot $robot calibrate --only board --board-above-tips-mm MM"
        echo "  sudo systemctl enable --now graspfleet-agent@$robot"
    fi
}

read_arguments "$@"
check_machine
install_packages
make_user
install_software
install_files
place_robot
say_what_next

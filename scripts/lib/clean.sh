# Clean systems to try a package in, made once and kept in build/; sourced by test-deb,
# test-arch and test-machine.
# Needs root, mmdebstrap and a mirror; MIRROR=URL names another one than the distribution's own.
# shellcheck shell=bash
. scripts/lib/packages.sh

# clean_system SUITE [ARCH] sets clean (an archive of the system) and python (its version), or fails
clean_system() {
    local suite=$1 arch=${2:-$(dpkg --print-architecture)} from=()
    local packages=systemd,systemd-sysv,python3,ca-certificates,mosquitto,udev,libstdc++6
    case $suite in
        bookworm) python=3.11 ;;
        noble) python=3.12 ;;
        trixie) python=3.13 ;;
        *) fail "no such suite: $suite: bookworm (Debian 12), trixie (Debian 13) or noble (Ubuntu 24.04)" ;;
    esac
    [ "$arch" = "$(dpkg --print-architecture)" ] || packages+=,python3-venv # for the offline bundle
    [ "$arch" != armhf ] || packages+=,python3-numpy,python3-cffi-backend
    clean=$PWD/build/$suite-$arch.tar
    [ ! -e "$clean" ] || return 0
    mkdir -p build
    [ "$suite" != noble ] || from=(--keyring="$(keyring_of_ubuntu)" --components=main,universe)
    mmdebstrap --quiet --format=tar --variant=minbase --architectures="$arch" --include="$packages" "${from[@]}" \
        "$suite" "$clean.new" ${MIRROR:+"$MIRROR"}
    mv "$clean.new" "$clean"
}

# Ubuntu's keys are in a package of Debian 13, so Debian's signature is on them
keyring_of_ubuntu() {
    local keys=$PWD/build/ubuntu-archive-keyring.gpg
    if [ ! -s "$keys" ]; then
        mmdebstrap --quiet --variant=extract --include=ubuntu-keyring trixie - |
            tar --extract --to-stdout ./usr/share/keyrings/ubuntu-archive-keyring.gpg >"$keys"
    fi
    echo "$keys"
}

# emulate ARCH registers qemu-user with this kernel, as its package does: programs of ARCH then run in every root
emulate() {
    local qemu tools binfmt=/proc/sys/fs/binfmt_misc
    [ "$1" != "$(dpkg --print-architecture)" ] || return 0
    case $1 in
        arm64) qemu=aarch64 tools=aarch64-linux-gnu ;;
        armhf) qemu=arm tools=arm-linux-gnueabihf ;;
        *) fail "no emulation of $1: arm64 or armhf" ;;
    esac
    # mmdebstrap asks arch-test, and build-deb strips with the tools of the architecture
    scripts/get-parts "qemu-$qemu-static:qemu-user-static" arch-test "$tools-strip:binutils-$tools"
    [ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
    [ -e "$binfmt/qemu-$qemu" ] || cat "/usr/lib/binfmt.d/qemu-$qemu.conf" >$binfmt/register
    grep --quiet '^flags: .*F' "$binfmt/qemu-$qemu" ||
        fail "$binfmt/qemu-$qemu lacks the flag F: the emulator would have to be in each root"
}

# what /proc/cpuinfo has on a board; the interpreters crash where it is that of another architecture
cpuinfo_of() {
    local name features id
    case $1 in
        arm64) name=Cortex-A72 id='8 0x0 0xd08 3' features='fp asimd evtstrm crc32 cpuid' ;;
        armhf) name=Cortex-A7 id='7 0x0 0xc07 5'
            features='half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm' ;;
    esac
    # shellcheck disable=SC2086 # four words
    set -- $id
    for processor in 0 1 2 3; do
        printf '%s\t: %s\n' processor $processor 'model name' "ARM $name" Features "$features" \
            'CPU implementer' 0x41 'CPU architecture' "$1" 'CPU variant' "$2" 'CPU part' "$3" 'CPU revision' "$4"
        echo
    done
}

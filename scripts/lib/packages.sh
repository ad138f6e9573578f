# Which packages a gateway's agent is made of, for a kind of machine; sourced by build-deb and
# build-offline: packages_for ARCH PYTHON sets lock, machine, system, next and of_pip, or fails.
# shellcheck shell=bash
fail() { echo "error: $*" >&2; exit 1; }

packages_for() {
    local arch=$1 python=$2 glibc
    case $python in
        3.11) system=deb12 next=3.12 ;;
        3.12) system=ubuntu24.04 next=3.13 ;;
        3.13) system=deb13 next=3.14 ;;
        *) fail "no packages for Python $python: 3.11, 3.12 or 3.13" ;;
    esac
    lock=requirements/gateway-$python.txt
    case $arch in
        amd64) machine=x86_64 ;;
        arm64) machine=aarch64 ;;
        armhf) machine=armv7l lock=requirements/gateway-armhf-3.11.txt
            [ "$python" = 3.11 ] || fail "32-bit Arm has a TFLite interpreter for Python 3.11 only" ;;
        *) fail "no packages for $arch: amd64, arm64 or armhf" ;;
    esac
    # wheels only, and only the files whose hashes are known: so any machine, with any Python, can get
    # them for any other
    of_pip=(--no-deps --require-hashes --only-binary :all: --ignore-requires-python --implementation cp
        --python-version "$python" --abi "cp${python/./}" --abi abi3 --abi none)
    for glibc in 2_36 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17; do
        of_pip+=(--platform "manylinux_${glibc}_$machine")
    done
    of_pip+=(--platform "manylinux2014_$machine" -r "$lock")
}

# the one wheel in dist/
find_wheel() {
    local wheels=(dist/fieldwatch-*.whl)
    [ -e "${wheels[0]}" ] && [ ${#wheels[@]} -eq 1 ] || fail "dist/ must have one wheel of fieldwatch: make wheel"
    wheel=${wheels[0]}
}

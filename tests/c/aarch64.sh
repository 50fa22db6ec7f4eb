#!/bin/sh
# The same bits on AArch64: bits.c, cross-compiled and run by QEMU, has to print
# golden.txt, with 16-byte vectors and with plain loops.
set -eu
cd "$(dirname "$0")"

compiler=aarch64-linux-gnu-gcc
emulator=qemu-aarch64-static
for tool in "$compiler" "$emulator"; do
    command -v "$tool" >/dev/null || {
        echo "No $tool: on Debian, apt-get install gcc-aarch64-linux-gnu" \
            "libc6-dev-arm64-cross qemu-user-static" >&2
        exit 1
    }
done

kernels=$(grep -L Py ../../csrc/*.c) # the files that know no Python
program=$(mktemp)
trap 'rm -f "$program"' EXIT

build() {
    "$compiler" -std=c11 -O3 -ffp-contract=off -pthread -static -I../../csrc "$@" \
        bits.c $kernels -o "$program"
}

check() {
    echo "AArch64, $1, threads: $2"
    "$emulator" "$program" portable "$2" | diff golden.txt -
}

build
check "16-byte vectors" 8
build -DCL_NO_VECTORS
check "plain loops" 1

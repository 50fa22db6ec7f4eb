#!/bin/sh
# The same bits on Windows: bits.c, cross-compiled and run by Wine, has to print
# golden.txt, with each instruction set and with plain loops, which are MSVC's. What a
# compiler warns of there is an error.
set -eu
cd "$(dirname "$0")"

compiler=x86_64-w64-mingw32-gcc
emulator=wine
for tool in "$compiler" "$emulator"; do
    command -v "$tool" >/dev/null || {
        echo "No $tool: on Debian, apt-get install gcc-mingw-w64-x86-64 wine wine64" >&2
        exit 1
    }
done

kernels=$(grep -L Py ../../csrc/*.c) # the files that know no Python
scratch=$(mktemp -d)
export WINEPREFIX="$scratch" WINEDEBUG=-all

# Wine's server outlives what it served, and writes its registry when it ends.
clean_up() {
    wineserver --kill || true
    wineserver --wait
    rm -rf "$scratch"
}
trap clean_up EXIT

build() {
    # shellcheck disable=SC2086 # the names are words
    "$compiler" -std=c11 -O3 -ffp-contract=off -static -Wall -Wextra -Wconversion \
        -Werror -I../../csrc "$@" bits.c $kernels -o "$scratch/bits.exe"
}

check() {
    echo "Windows, $1, threads: $2"
    "$emulator" "$scratch/bits.exe" "$1" "$2" | diff --strip-trailing-cr golden.txt -
}

build
for isa in $("$emulator" "$scratch/bits.exe" | tr -d ',\r'); do
    check "$isa" 8
done
build -DCL_PORTABLE -DCL_NO_VECTORS
check portable 1
check portable 8

#!/bin/sh
# contract.sh SECONDS: libFuzzer over contract*.c and csrc/, with every sanitizer that
# goes along. What it finds is written to tests/fuzz/corpus, to be kept there.
set -eu
cd "$(dirname "$0")/../.."

command -v clang >/dev/null || {
    echo "No clang: on Debian, apt-get install clang" >&2
    exit 1
}
build=build/fuzz
mkdir -p "$build/inputs"
flags="-std=c11 -O1 -g -ffp-contract=off -pthread -Icsrc -fno-sanitize-recover=all"
sanitizers=address,undefined
objects=
for file in $(grep -L Py csrc/*.c); do # the files that know no Python
    object=$build/$(basename "$file" .c).o
    # Instrumented kernels take minutes to compile.
    if [ -n "$(find csrc -newer "$object" 2>/dev/null || echo none)" ]; then
        clang $flags -fsanitize=fuzzer-no-link,$sanitizers -c "$file" -o "$object"
    fi
    objects="$objects $object"
done
clang $flags -fsanitize=fuzzer,$sanitizers tests/fuzz/contract*.c $objects \
    -lm -o "$build/contract"
"$build/contract" -len_control=0 -max_total_time="$1" -max_len=160 -timeout=60 \
    -report_slow_units=60 \
    -artifact_prefix=tests/fuzz/corpus/ "$build/inputs" tests/fuzz/corpus

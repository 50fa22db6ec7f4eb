/*
 * The contract of csrc/kernels/centerloss.h under libFuzzer: bytes become a batch and
 * options, every operation runs, and its results are checked.
 *
 *     clang -fsanitize=fuzzer,address,undefined ... contract*.c   libFuzzer's main
 *     cc -DREPLAY ... contract*.c                                 contract FILE...
 *
 * Aborts with a message unless
 *
 *   - CL_BAD_LABEL reports the first row out of range;
 *   - operations write only their results: no byte between rows or before the first
 *     one, and no class without rows in the batch (AddressSanitizer finds what is
 *     written behind an array: each is allocated with exactly its size);
 *   - results are those of the plain loops in double of contract_oracle.c;
 *   - they have the same bits with several threads and on every instruction set.
 */
#include "contract.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void
fail(const char *message, ...)
{
    va_list arguments;
    va_start(arguments, message);
    fputs("contract: ", stderr);
    vfprintf(stderr, message, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

static void
run_again(const test_case *t, const results *first, const char *isa, int threads)
{
    results again = run_operations(t, isa, threads);
    same_results(t, first, &again);
    free_results(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    test_case t = take_case(data, size);
    char names[128];
    snprintf(names, sizeof(names), "%s", cl_isa_names());
    const char *isa = strtok(names, ", ");
    results first = run_operations(&t, isa, 1);
    check_results(&t, &first);
    for (; isa != NULL; isa = strtok(NULL, ", ")) {
        run_again(&t, &first, isa, t.threads);
    }
    free_results(&first);
    free_case(&t);
    return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
    static uint8_t bytes[1 << 16];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            fail("no file %s", argv[i]);
        }
        const size_t size = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
#endif

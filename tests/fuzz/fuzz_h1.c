/* fuzz_h1.c: bytes of a client into the HTTP/1.1 side of daemon/net; the first byte chooses how they are cut. */
#include "tests/fuzz/fuzz_net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t step[] = { 1, 7, 61, 1000, 65536 };
    if (size < 1 || size > 65536)
        return 0;
    fuzz_connection(data + 1, size - 1, step[data[0] % WN_COUNT(step)]);
    return 0;
}

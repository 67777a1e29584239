/* main.c: checkkern [--seed N] [--iters N] [--filter GLOB] [--bench] [--list] [--expect ISA]; SEED and K in the
 * environment also. */
#include "tests/checkkern/checkkern.h"

int main(int argc, char **argv)
{
    return ck_main(argc, argv);
}

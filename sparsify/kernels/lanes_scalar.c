/* lanes_scalar.c: the reference: lanes_body.h at one lane. */
#include "sparsify/kernels/lanes.h"

#include <math.h>

typedef float vf;
typedef bool vm;
#define VL             1
#define NV             16
#define TILE           7
#define V_LOAD(p)      (*(p))
#define V_LOADU(p)     (*(p))
#define V_STORE(p, v)  (*(p) = (v))
#define V_STOREU(p, v) (*(p) = (v))
#define V_SET(x)       (x)
#define V_ADD(a, b)    ((a) + (b))
#define V_SUB(a, b)    ((a) - (b))
#define V_MUL(a, b)    ((a) * (b))
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_MAX(a, b)    ((a) > (b) ? (a) : (b))
#define V_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define V_RNE(a)       rintf(a)
#define V_GT(a, b)     ((a) > (b))
#define V_LE(a, b)     ((a) <= (b))
#define V_MAND(a, b)   ((a) && (b))
#define V_AND(m, x)    ((m) ? (x) : 0.0f)
#define V_SUM(x)       (x)
#define S_FMA(a, b, c) ((a) * (b) + (c))
#define KERNELS        wn_lanes_kernels__scalar
#include "sparsify/kernels/lanes_body.h"

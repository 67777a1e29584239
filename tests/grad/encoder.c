/* encoder.c: the rules of encoders by finite differences, around a table of embeddings whose rows make what an operator
 * reads differentiable; whole encoders as exporters write them; lengths that change from batch to batch. */
#include "tests/grad/encoder.h"

static const char *const names[2] = { "input_ids", "attention_mask" };
static const int64_t pads[2] = { 0, 0 };

void tokens_init(struct tokens *s, size_t n, size_t shortest, size_t longest)
{
    s->start = calloc(n + 1, sizeof *s->start);
    for (size_t i = 0; i < n; i++)
        s->start[i + 1] = s->start[i] + shortest + rnd_below((unsigned)(longest - shortest + 1));
    for (int k = 0; k < 2; k++)
        s->id[k] = calloc(s->start[n] + 1, sizeof **s->id);
    for (size_t i = 0; i < n; i++)
        for (size_t j = s->start[i]; j < s->start[i + 1]; j++) {
            s->id[0][j] = 1 + rnd_below(VOCAB - 1);
            s->id[1][j] = 1;
        }
    s->label = random_labels((unsigned)n, CLASSES);
    s->t = (struct wn_train_tokens){
        .n_inputs = 2, .name = names, .id = (const int64_t *const *)s->id, .pad = pads, .start = s->start
    };
    s->d = (struct wn_train_data){ .n = n, .label = s->label, .tokens = &s->t };
}

void tokens_done(struct tokens *s)
{
    free(s->id[0]);
    free(s->id[1]);
    free(s->start);
    free(s->label);
}

/* ---- nets ---- */

static wn_vid input(struct build *b, const char *name)
{
    int64_t dim[2] = { -1, -1 };
    wn_vid v = wn_graph_add_value(&b->g, name, WINNOW_I64, 2, dim);
    (void)wn_vec_push(&b->g.inputs, v);
    return v;
}

static wn_vid table(struct build *b, const char *name, int64_t rows, wn_vid ids)
{
    int64_t dim[2] = { rows, H };
    wn_vid w = build_const(b, name, 2, dim, 1.0f);
    b->at = w;
    build_node(b, "Gather", &ids, 1);
    return b->at;
}

static wn_vid number(struct build *b, float v)
{
    return wn_graph_add_const(&b->g, NULL, WINNOW_F32, 0, NULL, &v);
}

static wn_vid vector(struct build *b, const char *what, float at, float size)
{
    char name[32];
    int64_t h = H;
    snprintf(name, sizeof name, "norm%u.%s", b->n, what);
    wn_vid v = build_const(b, name, 1, &h, size);
    for (int i = 0; i < H; i++)
        ((float *)b->g.values.at[v].constant->data)[i] += at;
    return v;
}

static void start(struct net *n, int opset)
{
    memset(&n->b, 0, sizeof n->b);
    wn_arena_init(&n->b.arena, 0);
    wn_graph_init(&n->b.g, &n->b.arena);
    struct wn_opset set = { "", opset };
    (void)wn_vec_push(&n->b.g.opsets, set);
    n->b.g.ir_version = 8;
    n->ids = input(&n->b, names[0]);
    n->mask = input(&n->b, names[1]);
    n->x = table(&n->b, "word.weight", VOCAB, n->ids);
}

static void opset(struct net *n, int version)
{
    for (size_t i = 0; i < n->b.g.nodes.n; i++)
        n->b.g.nodes.at[i].opset = version;
}

/** One more node on b->at; `more` from the second input on. */
static struct wn_node *then(struct net *n, const char *type, unsigned n_more, wn_vid m1, wn_vid m2)
{
    wn_vid more[2] = { m1, m2 };
    return build_node(&n->b, type, more, n_more);
}

static void over(struct net *n, const char *type, int64_t axis, bool keep)
{
    struct wn_node *r = then(n, type, 0, 0, 0);
    wn_node_set_ints(&n->b.g, r, "axes", &axis, 1);
    wn_node_set_int(&n->b.g, r, "keepdims", keep);
}

/** (B, L, H) at b.at → mean over tokens → classes. */
static void head(struct net *n)
{
    over(n, "ReduceMean", 1, false);
    n->b.c = H;
    build_gemm(&n->b, CLASSES, true, true);
    build_output(&n->b);
}

static void slopes(const char *name, struct net *n, int version, bool no_fuse)
{
    char line[112];
    opset(n, version);
    for (int side = 0; side < 3; side++) {
        struct wn_train_opts o = { .batch = B,
                                   .threads = side == 2 ? 2 : 1,
                                   .no_sparse = side == 0,
                                   .all_sparse = side != 0,
                                   .no_fuse = no_fuse };
        struct winnow_err err;
        struct wn_trainer *tr = trainer(&n->b, &o);
        struct tokens s;
        double worst = INFINITY;
        if (side == 2)
            random_masks(tr, 0.5);
        for (int draw = 0; draw < 4 && !(worst <= 2e-3); draw++) {
            tokens_init(&s, B, MASK_FROM, L);
            must(wn_trainer_bind_data(tr, &s.d, &err), &err);
            worst = fmin(worst, worst_slope_at(tr, NULL, NULL));
            tokens_done(&s);
        }
        snprintf(line, sizeof line, "%s, %s", name, side == 0 ? "dense" : side == 1 ? "lanes" : "lanes, half pruned");
        check(line, worst, 2e-3);
        wn_trainer_free(tr);
    }
    build_done(&n->b);
}

/* ---- one rule at a time ---- */

static void elementwise(void)
{
    static const struct {
        const char *type;
        bool positive;
    } unary[] = { { "Sqrt", true },  { "Exp", false },  { "Log", true },     { "Erf", false },
                  { "Tanh", false }, { "Neg", false },  { "Abs", false },    { "Reciprocal", true },
                  { "Gelu", false }, { "Relu", false }, { "Sigmoid", false } };
    struct net n;
    for (size_t i = 0; i < WN_COUNT(unary); i++) {
        start(&n, 20);
        if (unary[i].positive) {
            then(&n, "Mul", 1, n.x, 0);
            then(&n, "Add", 1, number(&n.b, 0.5f), 0);
        }
        then(&n, unary[i].type, 0, 0, 0);
        head(&n);
        slopes(unary[i].type, &n, 20, false);
    }
    start(&n, 14);
    then(&n, "Pow", 1, number(&n.b, 2), 0);
    then(&n, "Add", 1, number(&n.b, 0.3f), 0);
    then(&n, "Pow", 1, number(&n.b, 1.5f), 0);
    head(&n);
    slopes("Pow 2, Pow 1.5", &n, 14, false);
    start(&n, 20);
    wn_node_set_str(&n.b.g, then(&n, "Gelu", 0, 0, 0), "approximate", "tanh");
    head(&n);
    slopes("Gelu by tanh", &n, 20, false);
    start(&n, 14);
    then(&n, "Mul", 1, vector(&n.b, "weight", 1, 0.3f), 0);
    then(&n, "Add", 1, vector(&n.b, "bias", 0, 0.3f), 0);
    then(&n, "Div", 1, number(&n.b, 1.7f), 0);
    head(&n);
    slopes("Mul and Add of parameters, Div of a number", &n, 14, false);
}

static void broadcasts(void)
{
    static const char *const types[] = { "Add", "Sub", "Mul", "Div" };
    struct net n;
    for (size_t i = 0; i < WN_COUNT(types); i++)
        for (int swap = 0; swap < 2; swap++) {
            char name[64];
            start(&n, 14);
            over(&n, "ReduceSum", 2, true); /* (B, L, 1) */
            then(&n, "Mul", 1, n.b.at, 0);
            then(&n, "Add", 1, number(&n.b, 1), 0);
            wn_vid small = n.b.at, a = n.x, c = small;
            if (types[i][0] == 'D' && swap) { /* the divisor stays away from 0 */
                n.b.at = n.x;
                then(&n, "Mul", 1, n.x, 0);
                then(&n, "Add", 1, number(&n.b, 0.5f), 0);
                a = n.b.at;
            }
            n.b.at = swap ? c : a;
            then(&n, types[i], 1, swap ? a : c, 0);
            head(&n);
            snprintf(name, sizeof name, "%s of (B, L, H) and (B, L, 1)%s", types[i], swap ? ", swapped" : "");
            slopes(name, &n, 12, false);
        }
    start(&n, 14);
    int64_t shape[3] = { 1, 1, H };
    wn_vid pos = build_const(&n.b, "pos.weight", 3, shape, 1);
    then(&n, "Mul", 1, pos, 0);
    head(&n);
    slopes("Mul of a parameter (1, 1, H)", &n, 14, false);
}

static void moves(void)
{
    struct net n;
    start(&n, 13);
    int64_t four[4] = { 0, -1, 2, H / 2 }, perm[4] = { 0, 2, 1, 3 }, axes1[1] = { 1 }, axes3[1] = { -1 };
    then(&n, "Reshape", 1, build_ints(&n.b, 4, four), 0);
    wn_node_set_ints(&n.b.g, then(&n, "Transpose", 0, 0, 0), "perm", perm, 4);
    then(&n, "Unsqueeze", 1, build_ints(&n.b, 1, axes1), 0); /* (B, 1, 2, L, H / 2) */
    then(&n, "Squeeze", 1, build_ints(&n.b, 1, axes1), 0);
    wn_node_set_ints(&n.b.g, then(&n, "Transpose", 0, 0, 0), "perm", perm, 4);
    int64_t three[3] = { 0, 0, -1 };
    then(&n, "Reshape", 1, build_ints(&n.b, 3, three), 0);
    then(&n, "Unsqueeze", 1, build_ints(&n.b, 1, axes3), 0);
    int64_t wide[4] = { 1, 1, 1, 3 };
    then(&n, "Expand", 1, build_ints(&n.b, 4, wide), 0);
    then(&n, "Mul", 1, n.b.at, 0);
    over(&n, "ReduceMean", 3, false);
    head(&n);
    slopes("Reshape, Transpose, Unsqueeze, Squeeze, Expand", &n, 13, false);

    start(&n, 13);
    int64_t from[2] = { 1, -2 }, to[2] = { INT32_MAX, -10 }, axes[2] = { 1, 2 }, steps[2] = { 3, -2 };
    wn_vid more[4] = { build_ints(&n.b, 2, from), build_ints(&n.b, 2, to), build_ints(&n.b, 2, axes),
                       build_ints(&n.b, 2, steps) };
    build_node(&n.b, "Slice", more, 4); /* (B, 5, 4) */
    int64_t idx[6] = { 3, 0, 1, 1, -2, 2 }, two[2] = { 2, 3 };
    wn_vid i2 = wn_graph_add_const(&n.b.g, NULL, WINNOW_I64, 2, two, idx);
    wn_node_set_int(&n.b.g, then(&n, "Gather", 1, i2, 0), "axis", 2); /* (B, 5, 2, 3) */
    then(&n, "Mul", 1, n.b.at, 0);
    int64_t flat[3] = { 0, 0, -1 };
    then(&n, "Reshape", 1, build_ints(&n.b, 3, flat), 0);
    wn_vid y = n.b.at;
    wn_node_set_int(&n.b.g, then(&n, "Concat", 1, y, 0), "axis", -1); /* (B, 5, 12) */
    over(&n, "ReduceSum", 1, false);
    n.b.c = 12;
    build_gemm(&n.b, CLASSES, true, true);
    build_output(&n.b);
    slopes("Slice, Gather, Concat", &n, 12, false);

    start(&n, 13);
    int64_t sizes[3] = { 3, 4, 1 };
    wn_vid in[2] = { n.x, build_ints(&n.b, 3, sizes) }, out[3];
    for (int i = 0; i < 3; i++)
        out[i] = wn_graph_add_value(&n.b.g, NULL, WINNOW_F32, -1, NULL);
    wn_node_set_int(&n.b.g, wn_graph_add_node(&n.b.g, "", "Split", "/net/Split", in, 2, out, 3), "axis", 2);
    n.b.at = out[1];
    then(&n, "Mul", 1, out[2], 0);
    wn_vid cat[1] = { out[1] };
    wn_node_set_int(&n.b.g, build_node(&n.b, "Concat", cat, 1), "axis", 2);
    head(&n);
    slopes("Split", &n, 13, false);

    start(&n, 13);
    int64_t zero = 0;
    wn_node_set_int(&n.b.g, then(&n, "Gather", 1, wn_graph_add_const(&n.b.g, NULL, WINNOW_I64, 0, NULL, &zero), 0),
                    "axis", 1);
    n.b.c = H;
    build_gemm(&n.b, CLASSES, true, true);
    build_output(&n.b);
    slopes("Gather of the first token", &n, 13, false);
}

/** Masks made from the inputs in every step, tables read at known places, products of two activations. */
static void products(void)
{
    struct net n;
    int64_t perm[3] = { 0, 2, 1 };
    for (int kind = 0; kind < 2; kind++) {
        start(&n, 13);
        wn_node_set_ints(&n.b.g, then(&n, "Transpose", 0, 0, 0), "perm", perm, 3);
        wn_vid xt = n.b.at;
        n.b.at = n.x;
        then(&n, "MatMul", 1, xt, 0);
        wn_vid scores = n.b.at;
        int64_t one = 1;
        wn_vid ax = build_ints(&n.b, 1, &one);
        n.b.at = n.mask;
        then(&n, "Unsqueeze", 1, ax, 0); /* (B, 1, L) */
        if (kind == 0) {
            wn_node_set_int(&n.b.g, then(&n, "Cast", 0, 0, 0), "to", 1);
            wn_vid m = n.b.at;
            n.b.at = number(&n.b, 1);
            then(&n, "Sub", 1, m, 0);
            then(&n, "Mul", 1, number(&n.b, -10000), 0);
            then(&n, "Add", 1, scores, 0);
        } else {
            wn_node_set_int(&n.b.g, then(&n, "Cast", 0, 0, 0), "to", 9);
            then(&n, "Where", 2, scores, number(&n.b, -3));
        }
        wn_node_set_int(&n.b.g, then(&n, "Softmax", 0, 0, 0), "axis", -1);
        then(&n, "MatMul", 1, n.x, 0);
        head(&n);
        slopes(kind ? "MatMul, Where, Softmax" : "MatMul, mask by Mul and Add, Softmax", &n, 13, false);
    }
    start(&n, 13);
    int64_t ids[64], dim[2] = { 1, 64 }, zero = 0, one_axis = 1;
    for (int i = 0; i < 64; i++)
        ids[i] = i;
    wn_vid all = wn_graph_add_const(&n.b.g, "pos", WINNOW_I64, 2, dim, ids);
    n.b.at = n.ids; /* as many positions as there are tokens */
    then(&n, "Shape", 0, 0, 0);
    then(&n, "Gather", 1, wn_graph_add_const(&n.b.g, NULL, WINNOW_I64, 1, &one_axis, &one_axis), 0);
    wn_vid cut[3] = { build_ints(&n.b, 1, &zero), n.b.at, build_ints(&n.b, 1, &one_axis) };
    n.b.at = all;
    build_node(&n.b, "Slice", cut, 3);
    wn_vid pos = table(&n.b, "pos.weight", 64, n.b.at);
    wn_node_set_ints(&n.b.g, then(&n, "Transpose", 0, 0, 0), "perm", perm, 3); /* (1, H, L) */
    wn_vid pt = n.b.at;
    n.b.at = n.x;
    then(&n, "MatMul", 1, pt, 0);
    then(&n, "MatMul", 1, pos, 0);
    then(&n, "Add", 1, pos, 0);
    head(&n);
    slopes("table at constant places, MatMul that broadcasts", &n, 13, false);
}

/* ---- layer norm and GELU, as one node and as many ---- */

static void norm_nodes(struct net *n)
{
    wn_vid x = n->b.at;
    over(n, "ReduceMean", -1, true);
    wn_vid mean = n->b.at;
    n->b.at = x;
    then(n, "Sub", 1, mean, 0);
    wn_vid d = n->b.at;
    then(n, "Pow", 1, number(&n->b, 2), 0);
    over(n, "ReduceMean", -1, true);
    then(n, "Add", 1, number(&n->b, 1e-3f), 0);
    then(n, "Sqrt", 0, 0, 0);
    wn_vid s = n->b.at;
    n->b.at = d;
    then(n, "Div", 1, s, 0);
    wn_vid scale = vector(&n->b, "weight", 1, 0.3f), shift = vector(&n->b, "bias", 0, 0.3f);
    then(n, "Mul", 1, scale, 0);
    then(n, "Add", 1, shift, 0);
}

/** order 0: (x * (1 + erf)) * 0.5; 1: x * ((1 + erf) * 0.5); 2: (x * 0.5) * (1 + erf) */
static void gelu_nodes(struct net *n, int order)
{
    wn_vid x = n->b.at, half = number(&n->b, 0.5f);
    then(n, "Div", 1, number(&n->b, sqrtf(2)), 0);
    then(n, "Erf", 0, 0, 0);
    then(n, "Add", 1, number(&n->b, 1), 0);
    if (order == 0) {
        then(n, "Mul", 1, x, 0);
        then(n, "Mul", 1, half, 0);
    } else if (order == 1) {
        then(n, "Mul", 1, half, 0);
        then(n, "Mul", 1, x, 0);
    } else {
        wn_vid e = n->b.at;
        n->b.at = x;
        then(n, "Mul", 1, half, 0);
        then(n, "Mul", 1, e, 0);
    }
}

static void chains(void)
{
    struct net n;
    start(&n, 17);
    wn_vid more[2] = { vector(&n.b, "weight", 1, 0.3f), vector(&n.b, "bias", 0, 0.3f) };
    build_node(&n.b, "LayerNormalization", more, 2);
    head(&n);
    slopes("LayerNormalization", &n, 17, false);
    for (int no_fuse = 0; no_fuse < 2; no_fuse++) {
        start(&n, 12);
        norm_nodes(&n);
        head(&n);
        slopes(no_fuse ? "layer norm node by node" : "layer norm from its nodes", &n, 12, no_fuse);
        for (int order = 0; order < 3; order++) {
            char name[64];
            start(&n, 12);
            gelu_nodes(&n, order);
            head(&n);
            snprintf(name, sizeof name, "GELU %s, order %d", no_fuse ? "node by node" : "from its nodes", order);
            slopes(name, &n, 12, no_fuse);
        }
    }
}

/* ---- a whole encoder, two heads ---- */

static void linear(struct net *n, const char *layer, int64_t from, int64_t to)
{
    char name[64];
    int64_t dim[2] = { from, to };
    snprintf(name, sizeof name, "onnx::MatMul_%u", n->b.n);
    wn_vid w = build_const(&n->b, name, 2, dim, sqrtf(3.0f / (float)from));
    then(n, "MatMul", 1, w, 0);
    snprintf(name, sizeof name, "%s.bias", layer);
    then(n, "Add", 1, build_const(&n->b, name, 1, &to, 0.2f), 0);
}

static void heads(struct net *n, const char *layer, wn_vid x, wn_vid shape, const int64_t *perm)
{
    n->b.at = x;
    linear(n, layer, H, H);
    then(n, "Reshape", 1, shape, 0);
    wn_node_set_ints(&n->b.g, then(n, "Transpose", 0, 0, 0), "perm", perm, 4);
}

/** Shape → Gather → Unsqueeze → Concat, as exporters compute (B, L, 2, H / 2). */
static wn_vid dynamic_shape(struct net *n, wn_vid x)
{
    wn_vid part[4];
    int64_t zero = 0, tail[2] = { 2, H / 2 };
    for (int64_t i = 0; i < 2; i++) {
        n->b.at = x;
        then(n, "Shape", 0, 0, 0);
        then(n, "Gather", 1, wn_graph_add_const(&n->b.g, NULL, WINNOW_I64, 0, NULL, &i), 0);
        then(n, "Unsqueeze", 1, build_ints(&n->b, 1, &zero), 0);
        part[i] = n->b.at;
    }
    part[2] = build_ints(&n->b, 1, tail);
    part[3] = build_ints(&n->b, 1, tail + 1);
    n->b.at = part[0];
    wn_node_set_int(&n->b.g, build_node(&n->b, "Concat", part + 1, 3), "axis", 0);
    return n->b.at;
}

void build_encoder(struct net *n)
{
    static const int64_t split[4] = { 0, 2, 1, 3 }, split_t[4] = { 0, 2, 3, 1 };
    int64_t axes[2] = { 1, 2 }, merged[3] = { 0, 0, H };
    start(n, 13);
    norm_nodes(n);
    wn_vid x = n->b.at, shape = dynamic_shape(n, x);
    heads(n, "attn.query", x, shape, split);
    wn_vid q = n->b.at;
    heads(n, "attn.key", x, shape, split_t);
    wn_vid k = n->b.at;
    heads(n, "attn.value", x, shape, split);
    wn_vid v = n->b.at;
    n->b.at = n->mask;
    then(n, "Unsqueeze", 1, build_ints(&n->b, 2, axes), 0);
    wn_node_set_int(&n->b.g, then(n, "Cast", 0, 0, 0), "to", 1);
    wn_vid m = n->b.at;
    n->b.at = number(&n->b, 1);
    then(n, "Sub", 1, m, 0);
    then(n, "Mul", 1, number(&n->b, -10000), 0);
    m = n->b.at;
    n->b.at = q;
    then(n, "MatMul", 1, k, 0);
    then(n, "Div", 1, number(&n->b, 2), 0);
    then(n, "Add", 1, m, 0);
    wn_node_set_int(&n->b.g, then(n, "Softmax", 0, 0, 0), "axis", -1);
    then(n, "MatMul", 1, v, 0);
    wn_node_set_ints(&n->b.g, then(n, "Transpose", 0, 0, 0), "perm", split, 4);
    then(n, "Reshape", 1, build_ints(&n->b, 3, merged), 0);
    linear(n, "attn.out", H, H);
    then(n, "Add", 1, x, 0);
    norm_nodes(n);
    wn_vid y = n->b.at;
    linear(n, "mlp.up", H, 2 * H);
    gelu_nodes(n, 0);
    linear(n, "mlp.down", 2 * H, H);
    then(n, "Add", 1, y, 0);
    norm_nodes(n);
    int64_t zero = 0;
    wn_node_set_int(&n->b.g, then(n, "Gather", 1, wn_graph_add_const(&n->b.g, NULL, WINNOW_I64, 0, NULL, &zero), 0),
                    "axis", 1);
    n->b.c = H;
    build_gemm(&n->b, CLASSES, true, true);
    build_output(&n->b);
    opset(n, 13);
}

/** Largest difference of two trainers' gradients, relative to the largest gradient. */
static double gradients_apart(struct wn_trainer *a, struct wn_trainer *b)
{
    struct winnow_err err;
    float la, lb;
    double worst = 0, size = 1e-9; /* of all: some are zero but for rounding (a key's bias) */
    must(wn_trainer_gradients(a, NULL, NULL, &la, &err), &err);
    must(wn_trainer_gradients(b, NULL, NULL, &lb, &err), &err);
    for (unsigned i = 0; i < wn_trainer_n_params(a); i++) {
        const struct wn_param *p = wn_trainer_param(a, i), *q = wn_trainer_find_param(b, p->name);
        for (size_t k = 0; k < p->n; k++)
            size = fmax(size, fabs((double)p->g[k]));
        for (size_t k = 0; q && k < p->n; k++)
            worst = fmax(worst, fabs((double)p->g[k] - (double)q->g[k]));
        worst = q ? worst : INFINITY;
    }
    return fmax(worst / size, fabs((double)la - (double)lb));
}

static void whole(void)
{
    struct net n;
    struct winnow_err err;
    build_encoder(&n);
    struct wn_train_opts o[3] = { { .batch = B, .no_sparse = true },
                                  { .batch = B, .no_sparse = true, .no_fuse = true },
                                  { .batch = B, .all_sparse = true, .threads = 2 } };
    struct wn_trainer *t[3];
    struct tokens s;
    tokens_init(&s, B, MASK_FROM, L);
    for (int i = 0; i < 3; i++) {
        t[i] = trainer(&n.b, &o[i]);
        must(wn_trainer_bind_data(t[i], &s.d, &err), &err);
    }
    check("encoder: chains as one operator, or node by node", gradients_apart(t[0], t[1]), 2e-5);
    check("encoder: dense or in lanes", gradients_apart(t[0], t[2]), 2e-5);
    check("encoder: slopes, dense", worst_slope_at(t[0], NULL, NULL), 2e-3);
    check("encoder: slopes, lanes", worst_slope_at(t[2], NULL, NULL), 2e-3);
    random_masks(t[0], 0.3);
    for (unsigned i = 0; i < wn_trainer_n_params(t[0]); i++) {
        struct wn_param *p = wn_trainer_param(t[0], i);
        if (p->mask)
            must(wn_trainer_set_mask(t[2], wn_trainer_find_param(t[2], p->name), p->mask, &err), &err);
    }
    check("encoder: 70 % pruned, dense or in lanes", gradients_apart(t[0], t[2]), 2e-5);
    check_true("encoder: matrices are named after their biases",
               wn_trainer_find_param(t[0], "attn.query.weight") && wn_trainer_find_param(t[0], "mlp.up.weight"));
    const struct wn_param *e = wn_trainer_find_param(t[0], "word.weight");
    check_true("encoder: embeddings and the classifier are not pruned by default",
               e && !e->prunable && !e->can_prune && wn_trainer_find_param(t[0], "mlp.down.weight")->prunable);
    for (int i = 0; i < 3; i++)
        wn_trainer_free(t[i]);
    tokens_done(&s);
    build_done(&n.b);
}

/* ---- lengths, tables, optimizer ---- */

/** A row's scores do not depend on how long its batch is: masked places are neutral. */
static void lengths(void)
{
    struct net n;
    struct winnow_err err;
    build_encoder(&n);
    struct wn_train_opts o = { .batch = 8 };
    struct wn_trainer *tr = trainer(&n.b, &o);
    struct tokens s;
    tokens_init(&s, 64, 1, 90);
    s.t.multiple = 4;
    struct wn_train_score by_batch, alone;
    uint32_t p[64], q[64];
    must(wn_trainer_evaluate(tr, &s.d, &by_batch, p, &err), &err);
    double loss = 0;
    bool same = true;
    for (uint32_t i = 0; i < 64; i++) {
        struct wn_train_tokens one = s.t;
        struct wn_train_data d = { .n = 1, .label = s.label + i, .tokens = &one };
        one.start = s.start + i;
        must(wn_trainer_evaluate(tr, &d, &alone, q, &err), &err);
        loss += alone.loss / 64;
        same &= p[i] == q[0];
    }
    check("lengths: a row alone or in a longer batch, loss", fabs(loss - by_batch.loss), 1e-5);
    check_true("lengths: the same classes", same);
    /* more lengths than nets are kept, with training in between */
    must(wn_trainer_bind_data(tr, &s.d, &err), &err);
    wn_trainer_set_lr(tr, 0.05f);
    struct wn_fit_opts fit = { .epochs = 12 };
    must(wn_trainer_fit(tr, &s.d, &fit, &err), &err);
    must(wn_trainer_evaluate(tr, &s.d, &alone, NULL, &err), &err);
    check_true("lengths: training lowers the loss", alone.loss < 0.8 * by_batch.loss);
    s.start[5] = s.start[4];
    check_true("lengths: an empty row is refused", wn_trainer_bind_data(tr, &s.d, &err) == WINNOW_E_MALFORMED);
    wn_trainer_free(tr);
    tokens_done(&s);
    build_done(&n.b);
}

static double rows_moved(const struct wn_param *p, const float *before, const bool *used, bool want_used)
{
    double sum = 0;
    for (int r = 0; r < VOCAB; r++)
        for (int k = 0; k < H && used[r] == want_used; k++)
            sum += fabs((double)p->w[r * H + k] - (double)before[r * H + k]);
    return sum;
}

static void optimizer(void)
{
    struct net n;
    struct winnow_err err;
    build_encoder(&n);
    struct wn_train_opts o = { .batch = B, .optimizer = WN_OPT_ADAMW, .clip_norm = 1e-3f };
    struct wn_trainer *tr = trainer(&n.b, &o);
    struct tokens s;
    bool used[VOCAB] = { true }; /* 0 pads */
    float before[VOCAB * H];
    tokens_init(&s, B, 2, 4);
    for (size_t i = 0; i < s.start[B]; i++)
        used[s.id[0][i]] = true;
    must(wn_trainer_bind_data(tr, &s.d, &err), &err);
    struct wn_param *e = wn_trainer_find_param(tr, "word.weight");
    memcpy(before, e->w, sizeof before);
    wn_trainer_set_lr(tr, 1e-2f);
    wn_trainer_set_weight_decay(tr, 0.1f);
    must(wn_trainer_step(tr, NULL, NULL, NULL, &err), &err);
    check_true("AdamW: rows of a table that a step reads move, the others stand still",
               rows_moved(e, before, used, true) > 0 && !(rows_moved(e, before, used, false) > 0));
    double square = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++)
        for (size_t k = 0; k < wn_trainer_param(tr, i)->n; k++)
            square += (double)wn_trainer_param(tr, i)->g[k] * (double)wn_trainer_param(tr, i)->g[k];
    check("clipping: the norm of all gradients", fabs(sqrt(square) - 1e-3), 1e-6);
    wn_trainer_free(tr);
    /* without clipping the first AdamW step is lr * (sign of g + wd * w) */
    o.clip_norm = 0;
    tr = trainer(&n.b, &o);
    must(wn_trainer_bind_data(tr, &s.d, &err), &err);
    wn_trainer_set_lr(tr, 1e-2f);
    wn_trainer_set_weight_decay(tr, 0.1f);
    struct wn_param *w = wn_trainer_find_param(tr, "mlp.up.weight"), *bias = wn_trainer_find_param(tr, "mlp.up.bias");
    float w0 = w->w[3], b0 = bias->w[3];
    must(wn_trainer_step(tr, NULL, NULL, NULL, &err), &err);
    double ew = (double)w0 - 0.01 * ((w->g[3] > 0 ? 1 : -1) + 0.1 * (double)w0) - (double)w->w[3];
    double eb = (double)b0 - 0.01 * (bias->g[3] > 0 ? 1 : -1) - (double)bias->w[3];
    check("AdamW: the first step, decay on matrices only", fmax(fabs(ew), fabs(eb)), 1e-5);
    wn_trainer_free(tr);
    tokens_done(&s);
    build_done(&n.b);
}

void test_encoder(void)
{
    elementwise();
    broadcasts();
    moves();
    products();
    chains();
    whole();
    lengths();
    optimizer();
}

/* load.h: a load tool that knows what every answer must be.
 *
 *   schedule (load.c) -> transports (load_h1.c: REST, load_h2.c: gRPC) -> load_done() -> check (load_check.c), counters
 *
 * One thread and one event loop; load_check.c has a thread of its own that runs the model files themselves. */
#ifndef WN_DEMO_LOAD_H
#define WN_DEMO_LOAD_H

#include <event2/event.h>
#include <jansson.h>
#include <netinet/in.h>
#include "base/vec.h"

#define LOAD_MAX_PICTURES 64
#define LOAD_MAX_GENS     512
#define LOAD_LABEL        64

/** What a response said. */
struct load_answer {
    int64_t version;
    uint64_t generation;
    char digest[80], label[LOAD_LABEL];
    float p;
};

/** A request under way. */
struct load_request {
    unsigned picture;
    uint64_t due_ns; /* when it should have been sent: latency counts from here */
};

struct load_picture {
    char *path;
    void *bytes;
    size_t n;
};

struct load;
struct load_h1;
struct load_h2;

/** Given by a transport when a request ends: `answer` NULL and `why` set when it failed. */
void load_done(struct load *load, const struct load_request *req, const struct load_answer *answer, const char *why);
const struct load_picture *load_picture(const struct load *load, unsigned i);
const char *load_model(const struct load *load);
struct event_base *load_base(struct load *load);

/* ---- transports: `send` queues what cannot be sent at once ---- */
struct load_h1 *load_h1_new(struct load *load, const struct sockaddr_in *to, unsigned connections);
void load_h1_send(struct load_h1 *h, const struct load_request *req);
void load_h1_free(struct load_h1 *h); /* what is under way fails */
struct load_h2 *load_h2_new(struct load *load, const struct sockaddr_in *to);
void load_h2_send(struct load_h2 *h, const struct load_request *req);
void load_h2_free(struct load_h2 *h);

/* ---- the check ---- */
struct load_check;
/** `dirs`: folders whose sub-folders hold model.onnx files, one of which must have each digest that answers name. */
struct load_check *load_check_new(const char *const *dirs, unsigned n_dirs, const struct load_picture *pictures,
                                  unsigned n_pictures);
/** Count an answer. False: not what this generation must say; `why` then tells. */
bool load_check_answer(struct load_check *c, unsigned picture, const struct load_answer *a, char why[160]);
uint64_t load_check_mixed(struct load_check *c);
/** [{generation, version, digest, first_s, served, mixed, reference, label, probability}, …]; the last two of the first
 *  picture, first_s: when its first answer came, since `start_ns`. */
json_t *load_check_json(struct load_check *c, uint64_t start_ns);
void load_check_free(struct load_check *c);

#endif

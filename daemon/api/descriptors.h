/* descriptors.h: what the .proto files here declare, as reflection tells it. Read-only; any thread.
 *
 * The bytes are a FileDescriptorSet (google/protobuf descriptor.proto) that protoc wrote when this was built. */
#ifndef WN_API_DESCRIPTORS_H
#define WN_API_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>

extern const unsigned char wn_descriptors[];
extern const size_t wn_descriptors_n;

/** One .proto file: a serialized FileDescriptorProto inside wn_descriptors. */
struct wn_proto_file {
    const unsigned char *p;
    size_t n;
};
/** i-th file; false past the last. */
bool wn_proto_file_at(size_t i, struct wn_proto_file *ret);
/** Index of the file of that name, or of the one that declares a symbol (a service, method, message, field, enum or
 *  value with its package: "inference.GRPCInferenceService.ModelInfer"). False: there is none. */
bool wn_proto_file_named(const char *name, size_t n, size_t *ret_i);
bool wn_proto_file_of_symbol(const char *symbol, size_t n, size_t *ret_i);
/** Whether a symbol is a message. */
bool wn_proto_is_message(const char *symbol, size_t n);
/** Call `each` with index of the file `i` and of every file it imports, directly or not, each once. */
void wn_proto_with_imports(size_t i, void (*each)(size_t i, void *arg), void *arg);
/** Call `each` with the full name of every service. */
void wn_proto_services(void (*each)(const char *name, void *arg), void *arg);

#endif

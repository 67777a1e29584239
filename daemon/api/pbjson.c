/* pbjson.c: see pbjson.h. Walks protobuf-c's descriptors; the messages are ours, so depth needs no bound.
 *
 * Source: protobuf-c.h (layout by offset, quantifier_offset: count of a repeated field, case of a oneof). */
#include "daemon/api/pbjson.h"

#include <stdint.h>
#include <string.h>
#include "base/base.h"

static json_t *scalar(const ProtobufCFieldDescriptor *f, const char *at)
{
    const ProtobufCEnumValue *e;
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_INT32:
        return json_integer(*(const int32_t *)(const void *)at);
    case PROTOBUF_C_TYPE_UINT32:
        return json_integer(*(const uint32_t *)(const void *)at);
    case PROTOBUF_C_TYPE_INT64:
        return json_integer(*(const int64_t *)(const void *)at);
    case PROTOBUF_C_TYPE_UINT64:
        return json_integer((json_int_t)WN_MIN(*(const uint64_t *)(const void *)at, (uint64_t)INT64_MAX));
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)*(const float *)(const void *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)(const void *)at);
    case PROTOBUF_C_TYPE_ENUM:
        e = protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)(const void *)at);
        return json_string(e ? e->name : "");
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(const char *const *)(const void *)at ? *(const char *const *)(const void *)at : "");
    case PROTOBUF_C_TYPE_MESSAGE:
        return wn_pb_json(*(const ProtobufCMessage *const *)(const void *)at);
    default:
        return json_null();
    }
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    default:
        return 8;
    }
}

/** protobuf-c makes repeated messages NAMEEntry {key, value} of maps, and keeps no mark. Ours have string keys. */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
    const ProtobufCMessageDescriptor *d = f->type == PROTOBUF_C_TYPE_MESSAGE ? f->descriptor : NULL;
    size_t n = d ? strlen(d->short_name) : 0;
    return n > 5 && strcmp(d->short_name + n - 5, "Entry") == 0 && d->n_fields == 2 &&
           strcmp(d->fields[0].name, "key") == 0 && d->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static json_t *map(const ProtobufCFieldDescriptor *f, char *const *entry, size_t n)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++) {
        const char *key = *(const char *const *)(const void *)(entry[i] + d->fields[0].offset);
        json_object_set_new(object, key, scalar(&d->fields[1], entry[i] + d->fields[1].offset));
    }
    return object;
}

static json_t *repeated(const ProtobufCFieldDescriptor *f, const char *base)
{
    size_t n = *(const size_t *)(const void *)(base + f->quantifier_offset), size = size_of(f->type);
    const char *at = *(const char *const *)(const void *)(base + f->offset);
    if (is_map(f))
        return map(f, (char *const *)(const void *)at, n);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, scalar(f, at + i * size));
    return list;
}

json_t *wn_pb_json(const ProtobufCMessage *m)
{
    const char *base = (const char *)m;
    json_t *object = json_object();
    for (unsigned i = 0; object && i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        bool oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        json_t *v;
        if (oneof && *(const uint32_t *)(const void *)(base + f->quantifier_offset) != f->id)
            continue;
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            v = repeated(f, base);
        else if (f->type == PROTOBUF_C_TYPE_MESSAGE && !*(void *const *)(const void *)(base + f->offset))
            continue;
        else
            v = scalar(f, base + f->offset);
        if (!v || json_object_set_new(object, f->name, v) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

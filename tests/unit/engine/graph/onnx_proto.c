/* onnx_proto.c: our field numbers and types beside those of the ONNX development package. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/vec.h"
#include "engine/graph/onnx.pb-c.h"

#define PACKAGED "/usr/include/onnx/onnx.proto"

static WN_VEC(const ProtobufCMessageDescriptor *) messages;

/* All messages that a model can hold. */
static void collect(const ProtobufCMessageDescriptor *desc)
{
    for (size_t i = 0; i < messages.n; i++)
        if (messages.at[i] == desc)
            return;
    cr_assert(wn_vec_push(&messages, desc));
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (desc->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            collect(desc->fields[i].descriptor);
}

static const ProtobufCMessageDescriptor *find_message(const char *path)
{
    for (size_t i = 0; i < messages.n; i++)
        if (strcmp(messages.at[i]->name + strlen("onnx."), path) == 0)
            return messages.at[i];
    return NULL;
}

static const char *type_name(const ProtobufCFieldDescriptor *fd)
{
    switch (fd->type) {
    case PROTOBUF_C_TYPE_INT32:
        return "int32";
    case PROTOBUF_C_TYPE_INT64:
        return "int64";
    case PROTOBUF_C_TYPE_UINT64:
        return "uint64";
    case PROTOBUF_C_TYPE_FLOAT:
        return "float";
    case PROTOBUF_C_TYPE_DOUBLE:
        return "double";
    case PROTOBUF_C_TYPE_STRING:
        return "string";
    case PROTOBUF_C_TYPE_BYTES:
        return "bytes";
    case PROTOBUF_C_TYPE_ENUM:
        return ((const ProtobufCEnumDescriptor *)fd->descriptor)->short_name;
    case PROTOBUF_C_TYPE_MESSAGE:
        return ((const ProtobufCMessageDescriptor *)fd->descriptor)->short_name;
    default:
        return "?";
    }
}

/* Compare one field of the packaged file; false when it is not one. */
static bool check_field(const char *path, char **word, unsigned n)
{
    bool label = n && (!strcmp(word[0], "optional") || !strcmp(word[0], "repeated") || !strcmp(word[0], "required"));
    bool repeated = label && !strcmp(word[0], "repeated");
    if (label)
        word++, n--;
    if (n < 4 || strcmp(word[2], "=") != 0 || !isdigit((unsigned char)word[3][0]))
        return false;
    const ProtobufCMessageDescriptor *desc = find_message(path);
    cr_expect_not_null(desc, "message %s is not ours", path);
    const ProtobufCFieldDescriptor *fd = desc ? protobuf_c_message_descriptor_get_field_by_name(desc, word[1]) : NULL;
    cr_expect(!desc || fd, "%s.%s is not ours", path, word[1]);
    if (!fd)
        return true;
    cr_expect_eq(fd->id, (uint32_t)atoi(word[3]), "%s.%s: number %u, not %s", path, word[1], fd->id, word[3]);
    cr_expect_eq(fd->label == PROTOBUF_C_LABEL_REPEATED, repeated, "%s.%s: repeated?", path, word[1]);
    const char *dot = strrchr(word[0], '.'), *type = dot ? dot + 1 : word[0];
    cr_expect_str_eq(type_name(fd), type, "%s.%s: type %s, not %s", path, word[1], type_name(fd), type);
    return true;
}

static unsigned split(char *line, char **word, unsigned max)
{
    unsigned n = 0;
    for (char *p = line, *save; n < max && (word[n] = strtok_r(p, " \t\r\n;", &save)); p = NULL)
        n++;
    return n;
}

Test(onnx_proto, field_numbers_are_those_of_the_specification)
{
    FILE *f = fopen(PACKAGED, "r");
    if (!f)
        cr_skip(PACKAGED " is not here (package libonnx-dev): comparison left out");
    collect(&onnx__model_proto__descriptor);
    char line[1024], path[256] = "", *word[8];
    size_t start[16]; /* where in path each open block's name starts; SIZE_MAX: an enum, SIZE_MAX - 1: a oneof */
    unsigned depth = 0, fields = 0;
    while (fgets(line, sizeof line, f)) {
        char *comment = strstr(line, "//");
        if (comment)
            *comment = '\0';
        bool opens = strchr(line, '{'), closes = strchr(line, '}');
        unsigned n = split(line, word, WN_COUNT(word));
        if (opens && n >= 2) {
            cr_assert_lt(depth, WN_COUNT(start));
            start[depth] = !strcmp(word[0], "enum")    ? SIZE_MAX
                           : !strcmp(word[0], "oneof") ? SIZE_MAX - 1
                                                       : strlen(path);
            if (start[depth] < SIZE_MAX - 1)
                snprintf(path + strlen(path), sizeof path - strlen(path), "%s%s", *path ? "." : "", word[1]);
            depth++;
        } else if (n >= 3 && depth && start[depth - 1] != SIZE_MAX && strcmp(word[0], "reserved") != 0) {
            fields += check_field(path, word, n);
        }
        if (closes && depth && start[--depth] < SIZE_MAX - 1)
            path[start[depth]] = '\0';
    }
    fclose(f);
    cr_log_info("%u fields compared", fields);
    cr_assert_gt(fields, 80);
    wn_vec_done(&messages);
}

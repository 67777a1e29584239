/* pbjson.h: a message of ours as JSON, as Triton prints its own: fields by their names in the .proto file, scalars also
 * where they are zero, enums by name, 64-bit integers as numbers. */
#ifndef WN_API_PBJSON_H
#define WN_API_PBJSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/** Messages that are not set and what is not chosen of a oneof are left out; bytes fields are not known.
 *  @return a new reference; NULL when out of memory */
json_t *wn_pb_json(const ProtobufCMessage *m);

#endif

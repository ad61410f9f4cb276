#ifndef LOCKSTEP_CORE_KERAS_FIELDS_H_
#define LOCKSTEP_CORE_KERAS_FIELDS_H_

#include "core/keras/object_reader.h"
#include "google/protobuf/message.h"
#include "lockstep/v1/model.pb.h"

// Configs of Keras and messages of model.proto, member by field: ours bear Keras' names. So a layer
// whose message follows Keras' config needs no code here.
namespace lockstep {

// Reads the member for each field of `message` that is in no oneof; absent or null members leave
// their field unset. Initializers, regularizers and activations are read in each of their forms,
// and lists in lists are one list.
void ReadFields(ObjectReader& config, google::protobuf::Message& message);

// Keras' whole or broken numbers in a list, or just one number.
std::vector<JsonValue::Number> ReadNumbers(KerasConversion& conversion, const std::string& path,
                                           const JsonValue& value);

// The members for the fields that are set. `path` of the message, for messages.
// INVALID_ARGUMENT for an activation that Keras has no name for.
absl::Status WriteFields(const google::protobuf::Message& message, const std::string& path,
                         JsonValue::Object& config);

// An object that Keras makes a thing of: {"module", "class_name", "config", "registered_name"}.
JsonValue KerasObject(absl::string_view module, absl::string_view class_name,
                      JsonValue::Object config);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_KERAS_FIELDS_H_

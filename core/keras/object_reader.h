#ifndef LOCKSTEP_CORE_KERAS_OBJECT_READER_H_
#define LOCKSTEP_CORE_KERAS_OBJECT_READER_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/formats/json_value.h"

namespace lockstep {

// What one conversion has come to. The first problem stays; readers go on with nothing.
struct KerasConversion {
  absl::Status status;
  bool keras2 = false;  // a few functions were others then

  // INVALID_ARGUMENT "<path>: <problem>", unless there has been one.
  void Fail(absl::string_view path, absl::string_view problem);
};

// One object of a Keras JSON, read member by member. Whoever has read what it knows calls Finish,
// which refuses the rest unless it means nothing.
class ObjectReader {
 public:
  // `object` and `conversion` must outlive the reader. `path` is the object's, empty for the whole.
  ObjectReader(KerasConversion& conversion, std::string path, const JsonValue& object);

  KerasConversion& conversion() const { return conversion_; }
  std::string Path(absl::string_view member) const;

  // Whether there is such a member, be it null.
  bool Has(absl::string_view member) const;
  // The member, or nullptr if there is none or it is null.
  const JsonValue* Take(absl::string_view member);
  // The same; its absence is a problem.
  const JsonValue* Require(absl::string_view member);
  // A string; the fallback if there is none.
  std::string Text(absl::string_view member, absl::string_view fallback = "");
  bool Flag(absl::string_view member, bool fallback);

  // INVALID_ARGUMENT unless every member has been taken, is null or false, or has the one value
  // that everything here has ("data_format" "channels_last").
  void Finish();

 private:
  KerasConversion& conversion_;
  const std::string path_;
  const JsonValue::Object* members_;
  std::set<std::string, std::less<>> taken_;
};

// For messages: the value, shortened.
std::string Shown(const JsonValue& value);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_KERAS_OBJECT_READER_H_

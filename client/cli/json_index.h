#ifndef LOCKSTEP_CLIENT_CLI_JSON_INDEX_H_
#define LOCKSTEP_CLIENT_CLI_JSON_INDEX_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lockstep {

// Where each member of a JSON document stands, so that a message about a field can name its line.
class JsonIndex {
 public:
  // INVALID_ARGUMENT with line and column for what is not JSON, and for a member named twice.
  static absl::StatusOr<JsonIndex> Parse(std::string_view text);

  // The line, from 1, of a member as protobuf's and the server's messages name it,
  // "model.layers[3].conv2d.kernel_size"; of the closest member around it when there is no such
  // one. 0 when nothing matches. Names in lowerCamelCase in the document match as well.
  int LineOf(std::string_view path) const;

 private:
  std::map<std::string, int, std::less<>> lines_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_JSON_INDEX_H_

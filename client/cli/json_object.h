#ifndef LOCKSTEP_CLIENT_CLI_JSON_OBJECT_H_
#define LOCKSTEP_CLIENT_CLI_JSON_OBJECT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// One line of JSON for what has no protobuf message, members in the order they were added.
class JsonObject {
 public:
  JsonObject& Text(const std::string& name, const std::string& value);
  JsonObject& Integer(const std::string& name, int64_t value);
  // null when it is not finite.
  JsonObject& Number(const std::string& name, double value);
  // A list of objects with name and value, as metrics are everywhere.
  JsonObject& Metrics(const std::vector<std::pair<std::string, double>>& metrics);

  // Writes the object and a line end to standard output.
  void Print() const;
  std::string ToString() const { return "{" + members_ + "}"; }

 private:
  JsonObject& Add(const std::string& name, const std::string& value);

  std::string members_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_JSON_OBJECT_H_

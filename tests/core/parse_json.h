#ifndef LOCKSTEP_TESTS_CORE_PARSE_JSON_H_
#define LOCKSTEP_TESTS_CORE_PARSE_JSON_H_

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <string>

namespace lockstep {

// A message from the JSON that users write.
template <typename Message>
Message ParseJson(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << status.ToString() << " in " << json;
  return message;
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_PARSE_JSON_H_

#include "server/jobs/page_token.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/data/digest.h"

namespace lockstep {
namespace {

constexpr size_t kCheckDigits = 16;

// Digits that only the same place in the same listing has.
std::string CheckDigits(int64_t below, const v1::ListJobsRequest& request) {
  std::vector<int> states(request.states().begin(), request.states().end());
  std::sort(states.begin(), states.end());
  std::string text = absl::StrCat("lockstep jobs ", below);
  for (int state : states) absl::StrAppend(&text, " ", state);
  for (const auto& [key, value] :
       std::map<std::string, std::string>(request.labels().begin(), request.labels().end())) {
    absl::StrAppend(&text, " ", key.size(), ":", key, "=", value.size(), ":", value);
  }
  return Sha256(text).substr(0, kCheckDigits);
}

}  // namespace

std::string MakePageToken(int64_t below, const v1::ListJobsRequest& request) {
  if (below == 0) return "";
  return absl::StrCat(below, "-", CheckDigits(below, request));
}

absl::StatusOr<int64_t> ParsePageToken(const v1::ListJobsRequest& request) {
  const std::string& token = request.page_token();
  if (token.empty()) return 0;
  int64_t below = 0;
  if (absl::SimpleAtoi(token.substr(0, token.find('-')), &below) &&
      token == MakePageToken(below, request)) {
    return below;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "page_token: must be the next_page_token of a listing with the same filters, got \"",
      absl::CHexEscape(token.substr(0, 80)), "\""));
}

}  // namespace lockstep

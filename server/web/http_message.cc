#include "server/web/http_message.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/formats/json_scanner.h"
#include "core/formats/json_value.h"

namespace lockstep {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(static_cast<unsigned char>(c));
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// RFC 3986's percent-encoding; in a query, where forms are encoded, a plus is a space, too.
absl::StatusOr<std::string> Decode(absl::string_view text, bool query) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && query) {
      decoded += ' ';
    } else if (text[i] != '%') {
      decoded += text[i];
    } else {
      const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
      const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
      if (low < 0) return absl::InvalidArgumentError("a % without two hexadecimal digits");
      decoded += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  if (!IsUtf8(decoded)) return absl::InvalidArgumentError("not UTF-8");
  return decoded;
}

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

}  // namespace

absl::Status ParseTarget(absl::string_view target, HttpRequest* request) {
  if (!absl::StartsWith(target, "/")) return absl::InvalidArgumentError("the target is no path");
  const size_t question = target.find('?');
  for (absl::string_view part : absl::StrSplit(
           target.substr(1, question == target.npos ? target.npos : question - 1), '/')) {
    absl::StatusOr<std::string> decoded = Decode(part, /*query=*/false);
    if (!decoded.ok()) return decoded.status();
    request->path.push_back(*std::move(decoded));
  }
  if (question == target.npos) return absl::OkStatus();
  for (absl::string_view part :
       absl::StrSplit(target.substr(question + 1), '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    absl::StatusOr<std::string> key = Decode(pair.first, /*query=*/true);
    if (!key.ok()) return key.status();
    absl::StatusOr<std::string> value = Decode(pair.second, /*query=*/true);
    if (!value.ok()) return value.status();
    request->query[*std::move(key)] = *std::move(value);
  }
  return absl::OkStatus();
}

HttpAnswer ErrorAnswer(const absl::Status& status, int http_status) {
  HttpAnswer answer;
  answer.status = http_status;
  answer.body = JsonValue{JsonValue::Object{
                              {"error", JsonValue::Text(std::string(status.message()))},
                              {"code", JsonValue::Text(absl::StatusCodeToString(status.code()))}}}
                    .ToString();
  return answer;
}

HttpAnswer ErrorAnswer(const absl::Status& status) {
  return ErrorAnswer(status, HttpStatus(status.code()));
}

}  // namespace lockstep

// Bytes of strangers on their way through an HTTP request: the parser with our limits, then
// everything that reads a piece of it before a service does. libFuzzer's entry point.

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "core/formats/json_scanner.h"
#include "server/web/access.h"
#include "server/web/http_message.h"
#include "server/web/infer_json.h"

namespace http = boost::beast::http;

namespace {

void Check(bool holds) {
  if (!holds) __builtin_trap();
}

absl::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lockstep::Access;
  static const Access* const kOpen = new Access("", /*loopback=*/true);
  static const Access* const kClosed = new Access("a long secret", /*loopback=*/false);

  http::request_parser<http::string_body> parser;
  parser.header_limit(8 << 10);
  parser.body_limit(64 << 10);
  parser.eager(true);
  boost::system::error_code error;
  // In two pieces, as a network may cut them.
  const size_t cut = size / 2;
  const size_t taken = parser.put(boost::asio::buffer(data, cut), error);
  if (!parser.is_done() && (!error || error == http::error::need_more)) {
    error = {};
    parser.put(boost::asio::buffer(data + taken, size - taken), error);
  }
  if (!parser.is_header_done()) return 0;

  const auto& header = parser.get();
  const lockstep::HttpCaller caller = {
      .host = View(header[http::field::host]),
      .origin = View(header[http::field::origin]),
      .fetch_site = View(header["Sec-Fetch-Site"]),
      .content_type = View(header[http::field::content_type]),
      .authorization = View(header[http::field::authorization]),
      .cookie = View(header[http::field::cookie]),
  };
  lockstep::HttpRequest request;
  if (lockstep::ParseTarget(View(header.target()), &request).ok()) {
    Check(!request.path.empty());
    for (const std::string& part : request.path) Check(lockstep::IsUtf8(part));
  }
  // A page of another origin never gets in, however it writes its name.
  if (kOpen->CheckHost(caller).ok() && Access::CheckSameOrigin(caller).ok()) {
    Check(caller.origin.empty() || absl::StrContains(caller.origin, caller.host));
  }
  if (kClosed->CheckToken(caller).ok()) {
    Check(absl::StrContains(caller.authorization, "a long secret") || !caller.cookie.empty());
  }
  if (parser.is_done()) {
    absl::StatusOr<inference::ModelInferRequest> infer =
        lockstep::ReadInferJson(parser.get().body());
    if (infer.ok()) {
      // What is a number costs a client two bytes at least.
      for (const auto& input : infer->inputs()) {
        Check(input.contents().fp32_contents_size() <= static_cast<int>(size));
      }
    }
  }
  return 0;
}

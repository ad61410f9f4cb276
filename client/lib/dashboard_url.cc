#include "client/lib/dashboard_url.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep {
namespace {

constexpr std::string_view kScheme = "http://";

// A name, an IPv4 address, or an IPv6 address in brackets.
bool IsHost(std::string_view host) {
  return std::ranges::all_of(host, [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '[' ||
           c == ']';
  });
}

}  // namespace

std::string DashboardUrl(std::string_view told, std::string_view address) {
  if (!told.starts_with(kScheme)) return "";
  const std::string_view rest = told.substr(kScheme.size());
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return "";
  const std::string_view port = rest.substr(colon + 1);
  int number = 0;
  if (!std::ranges::all_of(port, absl::ascii_isdigit) ||
      !absl::SimpleAtoi(absl::string_view(port.data(), port.size()), &number) || number < 1 ||
      number > 65535) {
    return "";
  }
  std::string_view host = rest.substr(0, colon);
  if (host.empty()) {
    host = address.starts_with("unix:") ? "localhost" : address.substr(0, address.rfind(':'));
  }
  if (host.empty() || !IsHost(host)) return "";
  return absl::StrCat("http://", absl::string_view(host.data(), host.size()), ":", number);
}

}  // namespace lockstep

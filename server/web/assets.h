#ifndef LOCKSTEP_SERVER_WEB_ASSETS_H_
#define LOCKSTEP_SERVER_WEB_ASSETS_H_

#include <span>
#include <string_view>

namespace lockstep {

// A file of the dashboard, in the binary.
struct Asset {
  std::string_view path;  // "assets/index-1a2b3c.js", "index.html"
  std::string_view bytes;
};

// What server/web/ui was built to.
std::span<const Asset> Assets();

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_ASSETS_H_

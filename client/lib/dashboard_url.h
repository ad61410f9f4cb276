#ifndef LOCKSTEP_CLIENT_LIB_DASHBOARD_URL_H_
#define LOCKSTEP_CLIENT_LIB_DASHBOARD_URL_H_

#include <string>
#include <string_view>

namespace lockstep {

// The initial metadata in which a server says where its dashboard is: "http://HOST:PORT", without
// HOST when that is any address of the server's machine.
inline constexpr char kDashboardKey[] = "x-lockstep-dashboard";

// Where the dashboard is for who is connected to `address` ("HOST:PORT" or "unix:PATH"). Empty when
// `told` is not of that form: people open what they read here, and terminals obey it.
std::string DashboardUrl(std::string_view told, std::string_view address);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_LIB_DASHBOARD_URL_H_

#ifndef LOCKSTEP_SERVER_EVENTS_CRC32C_H_
#define LOCKSTEP_SERVER_EVENTS_CRC32C_H_

#include <cstdint>
#include <string_view>

namespace lockstep {

// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
uint32_t Crc32c(std::string_view data);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_EVENTS_CRC32C_H_

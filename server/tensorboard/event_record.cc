#include "server/tensorboard/event_record.h"

#include <cstdint>
#include <string_view>

#include "server/events/crc32c.h"

namespace lockstep {
namespace {

template <typename Integer>
std::string LittleEndian(Integer value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(value); ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

uint32_t MaskedCrc(std::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

}  // namespace

void AppendRecord(const ::tensorboard::Event& event, std::string* out) {
  const std::string payload = event.SerializeAsString();
  const std::string length = LittleEndian(uint64_t{payload.size()});
  out->append(length).append(LittleEndian(MaskedCrc(length)));
  out->append(payload).append(LittleEndian(MaskedCrc(payload)));
}

}  // namespace lockstep

#ifndef LOCKSTEP_CORE_DATA_ELEMENTS_H_
#define LOCKSTEP_CORE_DATA_ELEMENTS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "core/data/tensor.h"

namespace lockstep {

// Calls body with a null pointer of the element type.
template <typename Body>
void WithElementType(DType dtype, Body body) {
  switch (dtype) {
    case DType::kUint8:
      return body(static_cast<const uint8_t*>(nullptr));
    case DType::kInt8:
      return body(static_cast<const int8_t*>(nullptr));
    case DType::kUint16:
      return body(static_cast<const uint16_t*>(nullptr));
    case DType::kInt16:
      return body(static_cast<const int16_t*>(nullptr));
    case DType::kInt32:
      return body(static_cast<const int32_t*>(nullptr));
    case DType::kInt64:
      return body(static_cast<const int64_t*>(nullptr));
    case DType::kFloat32:
      return body(static_cast<const float*>(nullptr));
    case DType::kFloat64:
      return body(static_cast<const double*>(nullptr));
  }
}

// Calls body(element) for each whole element of `bytes`, which may start anywhere, until it returns
// false.
template <typename Body>
void ForElements(DType dtype, std::span<const std::byte> bytes, Body body) {
  WithElementType(dtype, [&](const auto* type) {
    using Element = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
    const std::byte* from = bytes.data();
    for (size_t count = bytes.size() / sizeof(Element); count > 0; --count) {
      Element element;
      std::memcpy(&element, from, sizeof(Element));
      from += sizeof(Element);
      if (!body(element)) return;
    }
  });
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_DATA_ELEMENTS_H_

#include "core/numerics/float_environment.h"

#include <xmmintrin.h>

namespace lockstep {

void ResetFloatEnvironment() {
  constexpr unsigned kDefaultMxcsr = 0x1f80;
  _mm_setcsr(kDefaultMxcsr);
}

}  // namespace lockstep

// The floating-point environment: results must not depend on what another library left in the control register, such
// as flush-to-zero or a rounding mode.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#else
#include <cfenv>
#endif

namespace downslope {

// While it lives, this thread computes in the default environment; then the caller's is back as it was, flags included.
class DefaultFloatEnvironment {
public:
    DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
    DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

#if defined(__SSE2__)
    // MXCSR alone, since all arithmetic is SSE's or AVX's; fegetenv would also save the x87, at a hundred times the
    // cost. It is written only where that changes something, since reading it is cheap and writing it is not.
    DefaultFloatEnvironment() : saved_(_mm_getcsr()) {
        if ((saved_ & ~exception_flags) != power_on_default) _mm_setcsr(power_on_default);
    }
    ~DefaultFloatEnvironment() {
        if (_mm_getcsr() != saved_) _mm_setcsr(saved_);
    }

private:
    static constexpr unsigned power_on_default = 0x1f80, exception_flags = 0x3f;
    unsigned saved_;
#else
    DefaultFloatEnvironment() {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }

private:
    std::fenv_t saved_;
#endif
};

}  // namespace downslope

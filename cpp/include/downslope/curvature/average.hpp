// The symmetric part of what is not quite symmetric.
#pragma once

namespace downslope::curvature {

// Of two numbers that mirror each other, or arrays of them. An expression, of arrays that live on.
template <class A, class B>
auto average_of(const A& a, const B& b) {
    return 0.5 * a + 0.5 * b;
}

}  // namespace downslope::curvature

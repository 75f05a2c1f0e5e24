// Most problems by number are tiny, and cost least where the compiler knows their size.
#pragma once

#include <cstdint>
#include <type_traits>

namespace downslope {

// body(n), for a tiny n as a constant.
template <class Body>
decltype(auto) with_size(std::int64_t n, const Body& body) {
    switch (n) {
        case 1:
            return body(std::integral_constant<std::int64_t, 1>());
        case 2:
            return body(std::integral_constant<std::int64_t, 2>());
        case 3:
            return body(std::integral_constant<std::int64_t, 3>());
        case 4:
            return body(std::integral_constant<std::int64_t, 4>());
        default:
            return body(n);
    }
}

}  // namespace downslope

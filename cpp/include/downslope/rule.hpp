// The rule contract: how one element of a parameter moves, given its gradient and its state.
//
// A rule is a struct derived from `Rule` with
//
//   name                    the key by which every layer knows it, "adam"
//   Hyper                   its hyper-parameters: doubles, each with its default
//   hyper_parameters        their public names, members and domains
//   slots                   its state arrays; their names are PyTorch's where PyTorch has the rule
//   applies(h)              whether this struct is the variant that h asks for, where options change the slots
//   Coefficients<T>         what an update needs of the hyper-parameters and the step
//   prepare<T>(h, t)        works them out in double and casts each once to T; t = 1, 2, ...
//   update(c, p, g, s)      the formula, for one element: parameter p, gradient g, state s[0], s[1], ... in slot order
//
// and nothing else. Weight decay, layouts, tails, threads and vectorization are the fused step's.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#if defined(__FAST_MATH__)
#error "downslope promises exact results: compile without -ffast-math, and with -ffp-contract=off"
#endif

namespace downslope {

enum class Kind { number, flag, optional_number };  // a flag is 0 or 1; an absent optional number is NaN

// The values a hyper-parameter may take: lower <= value < upper, or value <= upper where upper is included. All are
// finite.
struct Domain {
    Kind kind;
    double lower, upper;
    bool includes_upper;
};

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr Domain any_finite{Kind::number, -infinity, infinity, false};
inline constexpr Domain non_negative{Kind::number, 0, infinity, false};
inline constexpr Domain optional_non_negative{Kind::optional_number, 0, infinity, false};
inline constexpr Domain below_one{Kind::number, 0, 1, false};
inline constexpr Domain up_to_one{Kind::number, 0, 1, true};
inline constexpr Domain flag{Kind::flag, 0, 1, true};

template <class Hyper>
struct HyperParameter {
    const char* name;
    double Hyper::* member;
    Domain domain;
};

// One array of state, of the parameter's shape.
struct Slot {
    const char* name;
    bool never_negative = false;
};
inline constexpr bool never_negative = true;

// What most rules have in common; a rule that differs declares its own.
struct Rule {
    // Whether a gradient may be rows of an array, which moves those rows alone.
    static constexpr bool takes_rows = false;
    // Whether prepare<T>(h, t, product) also carries a running product, kept in double for each array, from step to
    // step.
    static constexpr bool carries_product = false;

    // Whether a loop is to take the gradient elsewhere: at look_ahead(h, p, s), which it shows for one element.
    static constexpr bool looks_ahead = false;

    template <class Hyper>
    static constexpr bool applies(const Hyper&) {
        return true;
    }
    // The value that the state starts from.
    template <class Hyper>
    static constexpr double initial_state(const Hyper&) {
        return 0;
    }
};

// a^exponent and b^exponent for an integer exponent >= 0, by squaring, so that no two mathematical libraries can
// differ. A loop that steps one small problem would spend more time on this than on the step itself; so both powers
// share two lanes, an exact factor of 1 stands in for a branch that nobody can foresee, and bits are taken by eight.
inline std::pair<double, double> powers(double a, double b, std::int64_t exponent) {
    using Pair [[gnu::vector_size(2 * sizeof(double))]] = double;
    Pair result = {1, 1}, factors[] = {{1, 1}, {a, b}};
    auto bits = static_cast<std::uint64_t>(exponent);
    do {
        for (int k = 0; k < 8; ++k, bits /= 2) {
            result *= factors[bits % 2];
            factors[1] *= factors[1];
        }
    } while (bits > 0);
    const double first = result[0], second = result[1];  // Clang binds no reference to a lane
    return {first, second};
}
inline double power(double base, std::int64_t exponent) { return powers(base, 1, exponent).first; }

// The larger one, and NaN if either is NaN, as numpy.maximum.
template <class T>
constexpr T maximum(T a, T b) {
    return a > b || a != a ? a : b;
}

// -1, 0 or 1, and NaN for NaN, as numpy.sign.
template <class T>
constexpr T sign(T x) {
    return x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x;
}

template <class R, class T>
constexpr bool is_rule_for() {
    using C = typename R::template Coefficients<T>;
    using H = typename R::Hyper;
    static_assert(std::is_trivially_copyable_v<C>, "coefficients are copied as bytes");
    if constexpr (R::carries_product)
        static_assert(std::is_same_v<C, decltype(R::template prepare<T>(H(), 1, std::declval<double&>()))>);
    else
        static_assert(std::is_same_v<C, decltype(R::template prepare<T>(H(), 1))>);
    static_assert(std::is_void_v<decltype(R::update(C(), std::declval<T&>(), T(), std::declval<T*>()))>);
    return true;
}

// Whether R fulfils the contract; what is missing is a compile error that names it.
template <class R>
constexpr bool is_rule() {
    static_assert(std::is_base_of_v<Rule, R>);
    static_assert(std::is_same_v<decltype(R::name), const char* const>);
    static_assert(std::is_same_v<decltype(R::applies(typename R::Hyper())), bool>);
    static_assert(sizeof(typename R::Hyper) == sizeof(double) * std::size(R::hyper_parameters),
                  "every member of Hyper is a double and stands in hyper_parameters");
    static_assert(std::string_view(R::hyper_parameters[0].name) == "lr",
                  "decoupled weight decay and schedules look there");
    static_assert(std::size(R::slots) <= 3);
    return is_rule_for<R, float>() && is_rule_for<R, double>();
}

}  // namespace downslope

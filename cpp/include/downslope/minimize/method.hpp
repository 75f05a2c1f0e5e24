// The contract of a method: how it goes from one iterate to the next.
//
// Control is turned around: a method says at which point it wants the objective, and is told what it is there. So one
// body of code serves a single problem, many problems on many threads, and many whose points one NumPy function
// evaluates at once, and it never knows who evaluates.
#pragma once

#include <cstdint>

#include "../status.hpp"

namespace downslope {

class Method {
public:
    virtual ~Method() = default;

    // Starts anew, with x0 as the first point.
    virtual void start(const double* x0) = 0;

    // Where the objective is wanted next.
    virtual const double* point() const = 0;

    // Takes in the objective at the point: the point has become the next iterate, or the method goes on to another one,
    // or it cannot.
    enum class Outcome { iterate, wants_more, not_finite, no_progress };
    virtual Outcome tell(double f, const double* gradient, bool finite) = 0;

    // The iterate, after `tell` has said that there is a new one.
    virtual const double* x() const = 0;

    // Chooses the next point, starting from the iterate.
    virtual void advance(const double* gradient) = 0;
};

}  // namespace downslope

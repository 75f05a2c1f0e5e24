// The contract of a method: how it goes from one iterate to the next.
//
// Control is turned around: a method says at which point it wants the objective, and is told what it is there. So one
// body of code serves a single problem, many problems on many threads, and many whose points one NumPy function
// evaluates at once, and it never knows who evaluates.
#pragma once

#include <cstdint>

#include "../status.hpp"
#include "vectors.hpp"

namespace downslope {

// What is to be evaluated next: the objective with its gradient, the gradient alone, the Hessian, or its product with a
// direction.
enum class Want { objective, gradient, hessian, product, nothing };

// The form in which a method uses second derivatives.
enum class Curvature { unused, matrix, products };

class alignas(cache_line) Method {
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

    // ---- methods of the second order ----

    virtual Curvature uses() const { return Curvature::unused; }

    // Takes in the Hessian at the iterate, as it was given, which stays where it is until `advance` or `leave` is over.
    virtual void take_hessian(const double*) {}

    // Whether an iterate that meets a condition of convergence might be no minimum for all that the method knows.
    virtual bool doubts() const { return false; }

    // `advance` from such an iterate: along a direction of negative curvature; without one, nothing is wanted.
    virtual void leave(const double*) {}

    // After `advance`, `leave`, `tell_product` and a `tell` that wants more: the objective at `point()`, the product of
    // the Hessian at the iterate and `direction()`, or nothing.
    virtual Want wants() const { return Want::objective; }
    virtual const double* direction() const { return nullptr; }
    virtual void tell_product(const double*) {}
};

}  // namespace downslope

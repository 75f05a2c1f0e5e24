// The list of all rules. Where options change the state that a rule keeps, each variant stands here.
#pragma once

#include "adabelief.hpp"
#include "adadelta.hpp"
#include "adagrad.hpp"
#include "adam.hpp"
#include "adamax.hpp"
#include "lion.hpp"
#include "nadam.hpp"
#include "nag.hpp"
#include "radam.hpp"
#include "rmsprop.hpp"
#include "sgd.hpp"

namespace downslope {

template <class... Rules>
struct RuleList {
    static_assert((is_rule<Rules>() && ...));
};

using AllRules = RuleList<SGD, MomentumSGD<false>, MomentumSGD<true>, NAG, Adagrad, Adadelta, RMSprop<false, false>,
                          RMSprop<false, true>, RMSprop<true, false>, RMSprop<true, true>, Adam<false>, Adam<true>,
                          Adamax, NAdam, AdaBelief<false>, AdaBelief<true>, RAdam, Lion>;

}  // namespace downslope

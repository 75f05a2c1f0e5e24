// Now and then, in a loop whose turns may take nanoseconds or minutes.
#pragma once

#include <algorithm>
#include <chrono>

#include "vectors.hpp"

namespace downslope {

// Says every millisecond or so that it is time to look around. Reading the clock costs as much as a small turn of the
// loop, so it is read once in as many turns as lately took a fraction of that, but not in more than a few hundred:
// turns may become slow all at once.
class alignas(cache_line) Pulse {
public:
    using Clock = std::chrono::steady_clock;

    bool operator()() {
        if (--turns_left_ > 0) return false;
        const Clock::time_point now = Clock::now();
        const bool short_turns = now - last_reading_ < period / 8;
        turns_ = short_turns ? std::min(turns_ * 2, most_turns) : std::max(turns_ / 2, 1);
        turns_left_ = turns_;
        last_reading_ = now;
        if (now - last_look_ < period) return false;
        last_look_ = now;
        return true;
    }

    static double seconds_since(Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    }

private:
    static constexpr std::chrono::microseconds period{1000};  // not milliseconds: it is divided
    static constexpr int most_turns = 256;

    Clock::time_point last_reading_ = Clock::now(), last_look_ = last_reading_;
    int turns_ = 1, turns_left_ = 1;
};

}  // namespace downslope

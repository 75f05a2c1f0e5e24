// Now and then, in a loop whose turns may take nanoseconds or minutes.
#pragma once

#include <chrono>

namespace downslope {

// Says every few milliseconds that it is time to look around. Reading the clock costs as much as a small turn of the
// loop, so it is read once in as many turns as lately fitted into a millisecond.
class Pulse {
public:
    using Clock = std::chrono::steady_clock;

    bool operator()() {
        if (--turns_left_ > 0) return false;
        const Clock::time_point now = Clock::now();
        const bool short_turns = now - last_look_ < std::chrono::milliseconds(1);
        turns_ = short_turns ? turns_ * 2 : turns_ > 1 ? turns_ / 2 : 1;
        turns_left_ = turns_;
        last_look_ = now;
        return true;
    }

    static double seconds_since(Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    }

private:
    Clock::time_point last_look_ = Clock::now();
    long turns_ = 1, turns_left_ = 1;
};

}  // namespace downslope

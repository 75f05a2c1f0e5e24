// A block-diagonal matrix, of equal or different blocks.
#pragma once

#include <atomic>
#include <numeric>
#include <utility>

#include "dense.hpp"
#include "small_blocks.hpp"

namespace downslope::curvature {

class BlockDiagonal {
public:
    struct Block {
        const double* matrix;
        Index size;
    };

    explicit BlockDiagonal(std::vector<Block> blocks)
        : blocks_(std::move(blocks)), rows_(blocks_.size()), order_(blocks_.size()) {
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            rows_[i] = size_;
            size_ += blocks_[i].size;
        }
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        const auto smaller = [&](std::size_t i, std::size_t k) { return blocks_[i].size < blocks_[k].size; };
        if (!std::is_sorted(order_.begin(), order_.end(), smaller))
            std::stable_sort(order_.begin(), order_.end(), smaller);
        make_groups();
    }

    Index size() const { return size_; }

    void multiply(ConstColumns v, Columns out, int threads) const {
        for_each_group(threads, [&](const Group& group, int group_threads) {
            for (std::size_t k = group.first; k < group.first + group.count; ++k) {
                const Index row = rows_[order_[k]], n = group.size;
                multiply_symmetric(matrix(order_[k]), v.middleRows(row, n), out.middleRows(row, n), group_threads);
            }
        });
    }

    Outcome check(double asymmetry, int threads) const {
        std::vector<double> shifts(blocks_.size());
        return for_each_status(
            threads, shifts, [&](const Group& group, SmallBlocks::Block* members, int group_threads) {
                if (group.size > largest_small_block) {
                    *members->status = check_symmetric(matrix(order_[group.first]), asymmetry, group_threads);
                } else {
                    Lanes packed[largest_small_block * largest_small_block];
                    SmallBlocks(packed, nullptr, group.size).load(members, static_cast<int>(group.count), asymmetry);
                }
            });
    }

    Outcome factorize(const FactorOptions& options, int threads) {
        resize_large(packed_, lanes, packed_lanes_);
        diagonal_.resize(lanes, diagonal_lanes_);
        shifts_.assign(blocks_.size(), 0);
        return for_each_status(
            threads, shifts_, [&](const Group& group, SmallBlocks::Block* members, int group_threads) {
                if (group.size > largest_small_block)
                    *members->status =
                        large(group).factorize(matrix(order_[group.first]), options, *members->shift, group_threads);
                else
                    small(group).factorize(members, static_cast<int>(group.count), options);
            });
    }

    bool solve(Columns x, int threads) const {
        std::atomic<bool> regular{true};
        for_each_group(threads, [&](const Group& group, int group_threads) {
            const bool is_regular = group.size > largest_small_block
                                        ? solve_large(large(group), group, x, group_threads)
                                        : solve_small(small(group), group, x);
            if (!is_regular) regular = false;
        });
        return regular;
    }

    // The same as both, but no factor outlives its block: so none has to leave the cache.
    Outcome factorize_and_solve(const FactorOptions& options, Columns x, bool& is_regular, int threads) const {
        std::atomic<bool> regular{true};
        std::vector<double> shifts(blocks_.size());
        const Outcome outcome =
            for_each_status(threads, shifts, [&](const Group& group, SmallBlocks::Block* members, int group_threads) {
                bool is_solved = true;
                if (group.size > largest_small_block) {
                    Memory packed, diagonal(lanes, tiles_in(group.size, lanes));
                    resize_large(packed, lanes, packed_rows(group.size) * group.size / lanes);
                    Cholesky factor(packed.data(), diagonal.data(), group.size);
                    *members->status =
                        factor.factorize(matrix(order_[group.first]), options, *members->shift, group_threads);
                    if (*members->status == FactorStatus::success)
                        is_solved = solve_large(factor, group, x, group_threads);
                } else {
                    Lanes packed[largest_small_block * largest_small_block], diagonal[largest_small_block];
                    SmallBlocks factors(packed, diagonal, group.size);
                    factors.factorize(members, static_cast<int>(group.count), options);
                    const auto succeeded = [](const SmallBlocks::Block& block) {
                        return *block.status == FactorStatus::success;
                    };
                    if (std::all_of(members, members + group.count, succeeded))
                        is_solved = solve_small(factors, group, x);
                }
                if (!is_solved) regular = false;
            });
        is_regular = regular;
        return outcome;
    }

    std::vector<double> shifts() const { return shifts_; }

private:
    // What is factorized together: small blocks of equal size, or one larger block. Where it has its memory, in lanes.
    struct Group {
        Index size;
        std::size_t first, count;  // in the order by size
        Index packed, diagonal;
    };

    // What a thread takes at a time: a run of groups of about so many lanes.
    static constexpr Index lanes_a_run = 1024;

    void make_groups() {
        Index begun = lanes_a_run;
        for (std::size_t k = 0; k < order_.size();) {
            const Index n = blocks_[order_[k]].size;
            const bool is_small = n <= largest_small_block;
            std::size_t count = 1;
            while (is_small && count < lanes && k + count < order_.size() && blocks_[order_[k + count]].size == n)
                ++count;
            if (n < large_size && begun >= lanes_a_run) {
                runs_.push_back(groups_.size());
                begun = 0;
            }
            groups_.push_back({n, k, count, packed_lanes_, diagonal_lanes_});
            if (n < large_size) small_groups_ = groups_.size();
            const Index packed = is_small ? n * n : packed_rows(n) * n / lanes;
            packed_lanes_ += packed;
            diagonal_lanes_ += is_small ? n : tiles_in(n, lanes);
            begun += packed;
            k += count;
        }
        runs_.push_back(small_groups_);
    }

    // Calls body(group, threads) for every group: runs of groups in parallel, and then the large blocks, which come
    // last, one after the other on all threads.
    template <class Body>
    void for_each_group(int threads, const Body& body) const {
        parallel_tasks(threads, static_cast<Index>(runs_.size()) - 1, [&](Index run) {
            const auto here = runs_.begin() + run;
            for (std::size_t i = here[0]; i < here[1]; ++i) body(groups_[i], 1);
        });
        for (std::size_t i = small_groups_; i < groups_.size(); ++i) body(groups_[i], threads);
    }

    // Calls body(group, members, threads) for every group, which sets the statuses of its members. What came out.
    template <class Body>
    Outcome for_each_status(int threads, std::vector<double>& shifts, const Body& body) const {
        std::vector<FactorStatus> statuses(blocks_.size());
        for_each_group(threads, [&](const Group& group, int group_threads) {
            std::array<SmallBlocks::Block, lanes> members;
            for (std::size_t k = 0; k < group.count; ++k) {
                const std::size_t block = order_[group.first + k];
                members[k] = {blocks_[block].matrix, &statuses[block], &shifts[block]};
            }
            body(group, members.data(), group_threads);
        });
        const auto failed = std::find_if(statuses.begin(), statuses.end(),
                                         [](FactorStatus status) { return status != FactorStatus::success; });
        return failed == statuses.end() ? Outcome{} : Outcome{*failed, failed - statuses.begin()};
    }

    bool solve_large(const Cholesky& factor, const Group& group, Columns x, int threads) const {
        return factor.solve(x.middleRows(rows_[order_[group.first]], group.size), threads);
    }

    bool solve_small(const SmallBlocks& factors, const Group& group, Columns x) const {
        bool is_regular = true;
        for (Index j = 0; j < x.cols(); ++j) {
            std::array<double*, lanes> parts;
            for (std::size_t k = 0; k < group.count; ++k) parts[k] = x.col(j).data() + rows_[order_[group.first + k]];
            is_regular &= factors.solve(parts, static_cast<int>(group.count));
        }
        return is_regular;
    }

    Eigen::Map<const MatrixXd> matrix(std::size_t block) const {
        return {blocks_[block].matrix, blocks_[block].size, blocks_[block].size};
    }

    SmallBlocks small(const Group& group) const {
        return {lanes_of(packed_) + group.packed, lanes_of(diagonal_) + group.diagonal, group.size};
    }

    Cholesky large(const Group& group) const {
        return {lanes_of(packed_)[group.packed].data(), lanes_of(diagonal_)[group.diagonal].data(), group.size};
    }

    using Memory = Eigen::Array<double, lanes, Eigen::Dynamic>;
    static Lanes* lanes_of(const Memory& memory) {
        return reinterpret_cast<Lanes*>(const_cast<double*>(memory.data()));
    }

    std::vector<Block> blocks_;
    std::vector<Index> rows_;         // where each block begins
    std::vector<std::size_t> order_;  // the blocks by size
    std::vector<Group> groups_;       // in that order
    std::vector<std::size_t> runs_;   // the groups with which runs begin, and the end of the last
    std::size_t small_groups_ = 0;    // how many groups come before the blocks that all threads share
    Index size_ = 0, packed_lanes_ = 0, diagonal_lanes_ = 0;
    Memory packed_, diagonal_;
    std::vector<double> shifts_;
};

}  // namespace downslope::curvature

// Memory in large pages, where the system has them: the only file that asks it for them.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace downslope {

// Fresh memory arrives page by page when it is first written to, and that may take as long as the writing. From here on
// it pays to ask for large pages; the numbers that are in it already stay.
inline constexpr std::size_t large_memory = std::size_t{1} << 22;

inline void prefer_large_pages(void* memory, std::size_t bytes) {
#ifdef MADV_HUGEPAGE
    if (bytes < large_memory) return;
    const auto page = std::uintptr_t{1} << 12,
               begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // it may be refused, and nothing is lost
#else
    (void)memory;
    (void)bytes;
#endif
}

}  // namespace downslope

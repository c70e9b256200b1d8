// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace torch_accelerated {

/// Has this thread keep the memory of its tensors on the CPU when they are freed, blocks of up to
/// 512 KiB and 64 MiB in all, and give it to its next tensors of the same size, the newest first: a
/// C library takes long over aligned blocks, and the newest are still in the processor's caches.
/// For that, LibTorch's allocator is replaced for the whole process; tensors of threads that don't
/// ask for it come from the C library as before. Where there is no memory for one of its tensors,
/// the thread gives back what it keeps and asks once more.
/// @return false, with nothing changed, where LibTorch has an allocator of the program's.
bool keep_blocks_of_this_thread();

/// How many bytes of freed blocks this thread keeps.
std::size_t bytes_kept_by_this_thread() noexcept;

/// Gives the C library what this thread keeps.
void release_blocks_of_this_thread() noexcept;

}  // namespace torch_accelerated

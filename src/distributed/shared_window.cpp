// SPDX-License-Identifier: Apache-2.0
#include "distributed/shared_window.h"

#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace torch_accelerated::detail {
namespace {

// Where MPI libraries put the memory that processes share.
const char* backing_folder() {
  const char* chosen = std::getenv("OMPI_MCA_osc_sm_backing_directory");
  if (chosen != nullptr) return chosen;
  return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

// Asked before MPI is: an MPI that finds out by itself prints a page, or leaves ranks waiting.
bool has_room(std::size_t bytes) {
  struct statvfs info;
  if (statvfs(backing_folder(), &info) != 0) return true;  // then MPI has to find out
  const auto free_bytes = static_cast<std::size_t>(info.f_bavail) * info.f_frsize;
  return bytes + bytes / 16 + (std::size_t{4} << 20) <= free_bytes;
}

// Fills the area with zeros. Another program may have taken the room in the meantime: then this is
// where it shows, and not as a SIGBUS in the middle of a run.
bool populate(std::byte* area, std::size_t bytes) {
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, which older headers lack
  const bool is_old_kernel_or_done = madvise(area, bytes, kPopulateWrite) == 0 || errno == EINVAL;
  if (is_old_kernel_or_done) std::memset(area, 0, bytes);
  return is_old_kernel_or_done;
}

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

// The first page that begins in an area. MPI's areas begin anywhere, but in all processes at the
// same place of a page.
std::byte* first_page(void* area) {
  const auto in_page = reinterpret_cast<std::uintptr_t>(area) % page_bytes();
  return static_cast<std::byte*>(area) + (in_page == 0 ? 0 : page_bytes() - in_page);
}

MPI_Win allocate_window(MPI_Comm host, std::size_t bytes) {
  MPI_Info info = MPI_INFO_NULL;
  check_mpi(MPI_Info_create(&info), "MPI_Info_create");
  // Each rank's area has pages of its own, which lie near to its core.
  MPI_Info_set(info, "alloc_shared_noncontig", "true");
  MPI_Win window = MPI_WIN_NULL;
  void* area = nullptr;
  const int code = MPI_Win_allocate_shared(static_cast<MPI_Aint>(bytes), 1, info, host,
                                           static_cast<void*>(&area), &window);
  MPI_Info_free(&info);
  return code == MPI_SUCCESS ? window : MPI_WIN_NULL;
}

}  // namespace

std::optional<SharedWindow> SharedWindow::allocate(MPI_Comm host, std::size_t bytes) {
  const int size = size_of(host);
  const auto with_margin = bytes + page_bytes();
  if (!holds_on_all(host, has_room(with_margin * static_cast<std::size_t>(size)))) {
    return std::nullopt;
  }
  SharedWindow window(allocate_window(host, with_margin), bytes);
  if (!holds_on_all(host, window.window_ != MPI_WIN_NULL)) return std::nullopt;
  for (int rank = 0; rank < size; ++rank) {
    MPI_Aint area_bytes = 0;
    int unit = 0;
    void* area = nullptr;
    check_mpi(
        MPI_Win_shared_query(window.window_, rank, &area_bytes, &unit, static_cast<void*>(&area)),
        "MPI_Win_shared_query");
    window.areas_.push_back(first_page(area));
  }
  if (holds_on_all(host, populate(window.area_of(rank_in(host)), bytes))) return window;
  window.free();
  return std::nullopt;
}

void SharedWindow::free() { check_mpi(MPI_Win_free(&window_), "MPI_Win_free"); }

}  // namespace torch_accelerated::detail

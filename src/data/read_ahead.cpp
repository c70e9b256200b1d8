// SPDX-License-Identifier: Apache-2.0
#include "data/read_ahead.h"

#include <functional>
#include <system_error>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

ReadAhead::ReadAhead(std::vector<Read> readers, std::int64_t capacity)
    : capacity_(capacity),
      slots_(static_cast<std::size_t>(capacity)),
      readers_(std::move(readers)) {
  threads_.reserve(readers_.size());
  try {
    for (const Read& read : readers_) {
      threads_.emplace_back(&ReadAhead::work, this, std::cref(read));
    }
  } catch (const std::system_error& error) {
    const std::size_t started = threads_.size();
    stop();
    throw StateError(concat("DataLoader: the system gave ", started, " of ", readers_.size(),
                            " worker threads (", error.what(), "); set num_workers <= ", started));
  }
}

ReadAhead::~ReadAhead() { stop(); }

void ReadAhead::start(std::int64_t epoch, std::int64_t first, std::int64_t end) {
  std::vector<Slot> dropped(slots_.size());
  {
    const std::lock_guard lock(mutex_);
    slots_.swap(dropped);
    ++run_;
    epoch_ = epoch;
    taken_ = claimed_ = first;
    end_ = end;
  }
  may_read_.notify_all();
}

Batch ReadAhead::next() {
  Slot slot;
  {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return slot_of(taken_).filled; });
    slot = std::exchange(slot_of(taken_), Slot());
    ++taken_;
  }
  may_read_.notify_one();
  if (slot.error) std::rethrow_exception(std::move(slot.error));
  return std::move(slot.batch);
}

bool ReadAhead::ready() {
  const std::lock_guard lock(mutex_);
  return slot_of(taken_).filled;
}

ReadAhead::Slot& ReadAhead::slot_of(std::int64_t batch) {
  return slots_[static_cast<std::size_t>(batch) % slots_.size()];
}

ReadAhead::Slot ReadAhead::filled_by(const Read& read, std::int64_t epoch,
                                     std::int64_t batch) noexcept {
  Slot slot;
  try {
    slot.batch = read(epoch, batch);
  } catch (...) {
    slot.error = std::current_exception();
  }
  slot.filled = true;
  return slot;
}

void ReadAhead::work(const Read& read) {
  std::unique_lock lock(mutex_);
  while (true) {
    may_read_.wait(
        lock, [this] { return stopping_ || (claimed_ < end_ && claimed_ - taken_ < capacity_); });
    if (stopping_) return;
    const std::int64_t run = run_;
    const std::int64_t epoch = epoch_;
    const std::int64_t batch = claimed_++;
    lock.unlock();
    Slot slot = filled_by(read, epoch, batch);
    lock.lock();
    if (run != run_) continue;
    slot_of(batch) = std::move(slot);
    if (batch == taken_) arrived_.notify_one();
  }
}

void ReadAhead::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  may_read_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace torch_accelerated

// SPDX-License-Identifier: Apache-2.0
#include "distributed/notices.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <optional>
#include <thread>
#include <type_traits>

#include "base/text.h"

namespace torch_accelerated::detail {
namespace {

// A notice is an exit code (0: the program has ended well), the number of pairs (communicator,
// operations), the pairs and a text, each number of 8 bytes. It is short enough that MPI doesn't
// wait for the receiver.
constexpr int kNotice = 7;
constexpr int kQuestion = 8;  // the id of a communicator
constexpr int kAnswer = 9;    // a Whereabouts
static_assert(std::is_trivially_copyable_v<Whereabouts>, "it is sent as bytes");

constexpr std::size_t kLongestText = 900;
constexpr std::size_t kMostPairs = 64;

void put(std::string& message, std::uint64_t number) {
  message.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

std::uint64_t take(const std::vector<char>& message, std::size_t& at) {
  std::uint64_t number = 0;
  if (at + sizeof(number) <= message.size()) {
    std::memcpy(&number, message.data() + at, sizeof(number));
  }
  at += sizeof(number);
  return number;
}

// The rank whose message of this kind has been put into `message`; nothing where none has come.
template <class Message>
std::optional<int> receive(MPI_Comm comm, int tag, Message& message) {
  int found = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm, &found, &status), "MPI_Iprobe");
  if (found == 0) return std::nullopt;
  check_mpi(MPI_Recv(&message, sizeof(message), MPI_BYTE, status.MPI_SOURCE, tag, comm, &status),
            "MPI_Recv");
  return status.MPI_SOURCE;
}

}  // namespace

std::shared_ptr<std::atomic<std::int64_t>> Notices::operations_of(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  auto& operations = operations_[id];
  if (!operations) operations = std::make_shared<std::atomic<std::int64_t>>(0);
  return operations;
}

void Notices::tell_failure(const std::string& text, ExitCode exit_code) noexcept {
  const std::lock_guard lock(mutex_);
  if (told_ || comm_ == MPI_COMM_NULL) return;
  told_ = true;
  std::string message;
  put(message, static_cast<std::uint64_t>(exit_code));
  put(message, 0);
  send_to_all(kNotice, message + text.substr(0, kLongestText));
  // Threads of this rank that wait are told, too.
  if (!failure_) failure_ = std::make_unique<Failure>(Failure{text, exit_code});
}

void Notices::tell_end() noexcept {
  const std::lock_guard lock(mutex_);
  if (told_ || comm_ == MPI_COMM_NULL) return;
  told_ = true;
  std::string message;
  put(message, 0);
  const auto pairs = std::min(operations_.size(), kMostPairs);
  put(message, pairs);
  auto pair = operations_.begin();
  for (std::size_t i = 0; i < pairs; ++i, ++pair) {
    put(message, pair->first);
    put(message, static_cast<std::uint64_t>(pair->second->load()));
  }
  send_to_all(kNotice, message);
}

void Notices::send(int tag, const std::string& message, int to) noexcept {
  // MPI may read it after this call: the sender doesn't wait for anybody.
  const std::string* kept = nullptr;
  try {
    kept = new std::string(message);
  } catch (const std::bad_alloc&) {
    return;  // as with a lost message: who waits for it finds out by the timeout
  }
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Isend(kept->data(), static_cast<int>(kept->size()), MPI_BYTE, to, tag, comm_, &request) ==
      MPI_SUCCESS) {
    MPI_Request_free(&request);
  }
}

void Notices::send_to_all(int tag, const std::string& message) noexcept {
  int rank = 0;
  int size = 0;
  if (MPI_Comm_rank(comm_, &rank) != MPI_SUCCESS) return;
  if (MPI_Comm_size(comm_, &size) != MPI_SUCCESS) return;
  for (int peer = 0; peer < size; ++peer) {
    if (peer != rank) send(tag, message, peer);
  }
}

void Notices::check(std::uint64_t id, const char* operation, std::int64_t number) {
  const std::lock_guard lock(mutex_);
  answer(id, operation, number);
  receive_all();
  if (failure_) {
    throw CommunicationError(concat(operation, " number ", number, ": ", failure_->text),
                             failure_->exit_code);
  }
  for (const auto& [rank, operations] : ended_) {
    const auto came = operations.find(id);
    // A rank that has ended after its part of this operation has left nobody alone.
    if (came != operations.end() && came->second >= number) continue;
    throw CommunicationError(concat(operation, " number ", number, ": rank ", rank,
                                    " doesn't come, its program has ended with status 0"));
  }
}

std::map<int, Whereabouts> Notices::ask(std::uint64_t id, const char* operation,
                                        std::int64_t number, std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  std::string question;
  put(question, id);
  std::unique_lock lock(mutex_);
  if (comm_ == MPI_COMM_NULL) return {};
  answers_[id].clear();
  send_to_all(kQuestion, question);
  while (std::chrono::steady_clock::now() < end) {
    answer(id, operation, number);
    receive_answers();
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    lock.lock();
  }
  return answers_[id];
}

void Notices::answer(std::uint64_t id, const char* operation, std::int64_t number) {
  if (comm_ == MPI_COMM_NULL) return;
  Whereabouts here;
  while (const auto asker = receive(comm_, kQuestion, here.asked)) {
    const auto begun = operations_.find(here.asked);
    here.begun = begun == operations_.end() ? 0 : begun->second->load();
    here.id = id;
    here.number = number;
    std::strncpy(here.name, operation, sizeof(here.name) - 1);
    send(kAnswer, {reinterpret_cast<const char*>(&here), sizeof(here)}, *asker);
  }
}

void Notices::receive_answers() {
  Whereabouts there;
  while (const auto rank = receive(comm_, kAnswer, there)) answers_[there.asked][*rank] = there;
}

void Notices::receive_all() {
  if (comm_ == MPI_COMM_NULL) return;
  for (;;) {
    int found = 0;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    check_mpi(MPI_Improbe(MPI_ANY_SOURCE, kNotice, comm_, &found, &handle, &status), "MPI_Improbe");
    if (found == 0) return;
    int length = 0;
    check_mpi(MPI_Get_count(&status, MPI_BYTE, &length), "MPI_Get_count");
    std::vector<char> message(static_cast<std::size_t>(length));
    check_mpi(MPI_Mrecv(message.data(), length, MPI_BYTE, &handle, &status), "MPI_Mrecv");
    keep(status.MPI_SOURCE, message);
  }
}

void Notices::keep(int rank, const std::vector<char>& message) {
  std::size_t at = 0;
  const auto exit_code = take(message, at);
  const auto pairs = std::min<std::uint64_t>(take(message, at), kMostPairs);
  Operations operations;
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const auto id = take(message, at);
    operations[id] = static_cast<std::int64_t>(take(message, at));
  }
  if (exit_code == 0) {
    ended_[rank] = std::move(operations);
  } else if (!failure_) {
    const auto begin = std::min(at, message.size());
    std::string text(message.begin() + static_cast<std::ptrdiff_t>(begin), message.end());
    failure_ = std::make_unique<Failure>(
        Failure{concat("rank ", rank, " has failed: ", text), static_cast<ExitCode>(exit_code)});
  }
}

void Notices::close() {
  const std::lock_guard lock(mutex_);
  if (comm_ != MPI_COMM_NULL) check_mpi(MPI_Comm_free(&comm_), "MPI_Comm_free");
}

}  // namespace torch_accelerated::detail

// SPDX-License-Identifier: Apache-2.0
#include "distributed/queued_communicator.h"

#include <torch/torch.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

namespace torch_accelerated {
namespace {

class Waiting : public Pending {
 public:
  explicit Waiting(std::future<void> done) : done_(std::move(done)) {}
  void wait() override {
    if (done_.valid()) done_.get();
  }

 private:
  std::future<void> done_;
};

/// Does what it is given in a thread of its own, in order.
class Worker {
 public:
  Worker() : thread_([this] { run(); }) {}
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      tasks_.clear();  // nobody waits for them any more
    }
    changed_.notify_all();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  std::future<void> add(std::function<void()> work) {
    Task task{std::move(work), {}};
    auto done = task.done.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
    return done;
  }

  bool is_busy() {
    const std::lock_guard lock(mutex_);
    return busy_ || !tasks_.empty();
  }

  void wait_until_idle() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tasks_.empty() && !busy_; });
  }

 private:
  struct Task {
    std::function<void()> work;
    std::promise<void> done;
  };

  static std::exception_ptr error_of(const std::function<void()>& work) {
    try {
      work();
      return nullptr;
    } catch (...) {
      return std::current_exception();
    }
  }

  void run() {
    const torch::NoGradGuard no_grad;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      busy_ = true;
      lock.unlock();
      const auto error = error_of(task.work);
      task.work = nullptr;  // and the tensors that it keeps
      lock.lock();
      busy_ = false;
      changed_.notify_all();
      lock.unlock();
      // Told last: who has waited for it may leave at once, and must not find this busy.
      if (error) {
        task.done.set_exception(error);
      } else {
        task.done.set_value();
      }
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

class QueuedCommunicator : public Communicator {
 public:
  explicit QueuedCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}
  ~QueuedCommunicator() override {
    // Ends the wait of the thread, which would hold up an error that is on its way out.
    if (worker_.is_busy()) {
      inner_->abort("this rank has left with reductions under way", ExitCode::kUserCode);
    }
  }
  QueuedCommunicator(const QueuedCommunicator&) = delete;
  QueuedCommunicator& operator=(const QueuedCommunicator&) = delete;

  int rank() const noexcept override { return inner_->rank(); }
  int size() const noexcept override { return inner_->size(); }
  std::string name() const override { return inner_->name() + ", in a thread of its own"; }

 protected:
  std::unique_ptr<Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                         SumOrder order) override {
    std::vector<torch::Tensor> kept(tensors.begin(), tensors.end());
    const auto limit = timeout();
    return std::make_unique<Waiting>(worker_.add([this, kept, order, limit]() mutable {
      inner_->set_timeout(limit);
      inner_->all_reduce(kept, order);
    }));
  }
  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    idle_inner().reduce_scatter(part, whole);
  }
  std::vector<torch::Tensor> do_all_gather(const torch::Tensor& tensor) override {
    return idle_inner().all_gather(tensor);
  }
  std::vector<torch::Tensor> do_all_to_all(const std::vector<torch::Tensor>& parts) override {
    return idle_inner().all_to_all(parts);
  }
  void do_broadcast(torch::Tensor& tensor, int root) override {
    idle_inner().broadcast(tensor, root);
  }
  void do_broadcast(std::string& bytes, int root) override { idle_inner().broadcast(bytes, root); }
  void do_barrier() override { idle_inner().barrier(); }
  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    return idle_inner().make_buffer(numel, like);
  }
  std::unique_ptr<Communicator> do_duplicate() override { return idle_inner().duplicate(); }
  void do_close() override { idle_inner().close(); }
  void do_abort(const std::string& reason, ExitCode exit_code) noexcept override {
    inner_->abort(reason, exit_code);
  }

 private:
  Communicator& idle_inner() {
    worker_.wait_until_idle();
    inner_->set_timeout(timeout());
    return *inner_;
  }

  std::unique_ptr<Communicator> inner_;
  Worker worker_;
};

}  // namespace

std::unique_ptr<Communicator> make_queued_communicator(std::unique_ptr<Communicator> inner) {
  return std::make_unique<QueuedCommunicator>(std::move(inner));
}

}  // namespace torch_accelerated

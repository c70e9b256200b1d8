// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::typed_events_test {
namespace {

// An event of the program's own.
struct Scored {
  int score;
};

class OnScored {
 public:
  virtual ~OnScored() = default;
  virtual void on_scored(ta::Trainer& trainer, const Scored& event) = 0;
};

class Listening : public ta::Callback, public OnScored {
 public:
  explicit Listening(std::vector<int>& scores) : scores_(&scores) {}
  void on_scored(ta::Trainer&, const Scored& event) override { scores_->push_back(event.score); }

 private:
  std::vector<int>* scores_;
};

TEST(TypedEvents, ReachTheCallbacksThatInheritThem) {
  class Announcing : public ta::Trainer {
   public:
    using Trainer::Trainer;

   protected:
    void train_epoch_end() override {
      callbacks().notify(&OnScored::on_scored, *this, Scored{static_cast<int>(progress().epoch)});
    }
  };
  auto net = tiny_net();
  auto optimizer = sgd(net);
  std::vector<int> scores;
  std::vector<std::string> trace;
  Announcing trainer(net, torch::nn::MSELoss(), optimizer,
                     ta::CallbackList(RecordingCallback(trace), Listening(scores)));
  trainer.train(tiny_batch(8), {.num_epochs = 2});
  EXPECT_THAT(scores, testing::ElementsAre(1, 2));
}

}  // namespace
}  // namespace tests::typed_events_test
